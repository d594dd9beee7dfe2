// Types of the names that the page uses of preact-htm.js, for `tsc --checkJs`.
export type VNode = any;
export function html(strings: TemplateStringsArray, ...values: any[]): VNode;
export function render(tree: VNode, parent: Element | DocumentFragment): void;
export function useEffect(effect: () => void | (() => void), inputs?: any[]): void;
export function useLayoutEffect(effect: () => void | (() => void), inputs?: any[]): void;
export function useRef<T>(initial: T | null): { current: T | null };
export function useState<T>(initial: T | (() => T)): [T, (value: T | ((previous: T) => T)) => void];
