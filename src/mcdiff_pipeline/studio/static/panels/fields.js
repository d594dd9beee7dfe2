/** Fields to type in. */
import { html, useLayoutEffect, useRef } from "../vendor/preact-htm.js";

/**
 * An input whose text changes only when its value does, so that frames or flow that arrive meanwhile leave what is being
 * typed.
 *
 * @param {{value: string | number, [attribute: string]: any}} props
 */
export function Input({ value, ...rest }) {
  const element = useRef(/** @type {HTMLInputElement | null} */ (null));
  useLayoutEffect(() => {
    /** @type {HTMLInputElement} */ (element.current).value = String(value);
  }, [value]);
  return html`<input ref=${element} ...${rest} />`;
}

/**
 * A number. With `empty`, a word for no number, it may be null.
 *
 * @param {{label: string, value: number | null, min: number, max: number, onChange: (value: any) => void, step?: number, empty?: string}} props
 */
export function NumberField({ label, value, min, max, onChange, step = 1, empty = undefined }) {
  /** @param {any} event */
  const change = (event) => {
    const number = Number(event.target.value);
    const none = empty === undefined ? value : null;
    const allowed = event.target.value !== "" && Number.isFinite(number) ? Math.min(max, Math.max(min, step === 1 ? Math.round(number) : number)) : none;
    event.target.value = String(allowed ?? "");
    if (allowed !== value) onChange(allowed);
  };
  return html`<label class="number"><span>${label}</span><${Input} type="number" inputmode="decimal" min=${min} max=${max} step=${step} value=${value ?? ""} placeholder=${empty} onChange=${change} /></label>`;
}

/** A number in a table; `onChange` returns false if it cannot be taken. @param {{label: string, value: number, min: number, max: number, onChange: (value: number) => unknown}} props */
export function Cell({ label, value, min, max, onChange }) {
  const shown = Math.round(value * 100) / 100;
  /** @param {any} event */
  const change = (event) => {
    const number = Number(event.target.value);
    const allowed = event.target.value !== "" && Number.isFinite(number) ? Math.min(max, Math.max(min, number)) : shown;
    event.target.value = String(allowed !== shown && onChange(allowed) === false ? shown : allowed);
  };
  return html`<${Input} class="cell" type="number" step="any" aria-label=${label} value=${shown} onChange=${change} />`;
}

/** Sets a CSS property by code: the page's policy allows no style attributes. @param {string} property @param {string} value */
export const paint = (property, value) => (/** @type {HTMLElement | null} */ element) => element?.style.setProperty(property, value);
