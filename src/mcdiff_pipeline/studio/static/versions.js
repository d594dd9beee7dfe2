/**
 * The versions of a session as a tree: their numbers and order, and where each one goes its own way.
 *
 * @typedef {import("./live.js").Node} Node
 * @typedef {Map<string, Node>} Nodes
 * @typedef {{node: Node, depth: number, above: string | null, place: number, of: number, foldable: boolean}} Row of the tree; `place` from 1 to `of` among those below the same one
 */

/** @param {Nodes} nodes */
const byAge = (nodes) => [...nodes.values()].sort((a, b) => a.created - b.created);

/** @param {Nodes} nodes @param {string | null} id */
export function titleOf(nodes, id) {
  return nodes.get(id ?? "")?.name ?? `Version ${byAge(nodes).findIndex((node) => node.id === id) + 1}`;
}

/** What a node is shown below: what it continues, or what it competes with. @param {Nodes} nodes @param {Node} node */
const above = (nodes, node) => [node.parent, node.best_of].find((id) => id && nodes.has(id)) ?? null;

/** Those of a competition by their score. @param {Node} a @param {Node} b */
const better = (a, b) => (a.best_of && a.best_of === b.best_of ? (a.score?.mean ?? Infinity) - (b.score?.mean ?? Infinity) || a.created - b.created : a.created - b.created);

/** Each version below that from which it comes. @param {Nodes} nodes @returns {Row[]} */
export function treeOf(nodes) {
  const all = byAge(nodes);
  /** @param {string | null} id @param {number} depth @returns {Row[]} */
  const below = (id, depth) => {
    const list = all.filter((node) => above(nodes, node) === id).sort(better);
    return list.flatMap((node, i) => {
      const inner = below(node.id, depth + 1);
      return [{ node, depth, above: id, place: i + 1, of: list.length, foldable: inner.length > 0 }, ...inner];
    });
  };
  return below(null, 0);
}

/** Those rows that lie below no folded one. @param {Row[]} rows @param {Set<string>} folded */
export function unfoldedOf(rows, folded) {
  const hidden = new Set();
  return rows.filter(({ node, above }) => {
    if (!above || !(folded.has(above) || hidden.has(above))) return true;
    hidden.add(node.id);
    return false;
  });
}

/** From the root to a node. @param {Nodes} nodes @param {string | null} id @returns {Node[]} */
export function branchTo(nodes, id) {
  const node = id ? nodes.get(id) : undefined;
  return node ? [...branchTo(nodes, node.parent), node] : [];
}

/** Those that wait for the render that is under way, in the order of their turns. @param {import("./editor.js").State} state */
export const queueOf = ({ nodes, render }) => byAge(nodes).filter((node) => node.state === "queued" && node.id !== render?.node);

/** A node and all that continue it. @param {Nodes} nodes @param {string} id @returns {Node[]} */
export function subtreeOf(nodes, id) {
  const found = [id];
  for (const one of found) for (const node of nodes.values()) if (node.parent === one) found.push(node.id);
  return found.flatMap((one) => nodes.get(one) ?? []);
}

/**
 * The place of a node among those that it competes with, from 1; null without a score.
 *
 * @param {Nodes} nodes @param {Node} node @returns {{rank: number, of: number} | null}
 */
export function rankOf(nodes, node) {
  const source = node.best_of ?? node.id;
  const all = [...nodes.values()].filter((one) => (one.id === source || one.best_of === source) && one.score?.mean != null);
  if (node.score?.mean == null || all.length < 2) return null;
  const mean = node.score.mean;
  return { rank: 1 + all.filter((one) => (one.score?.mean ?? Infinity) < mean).length, of: all.length };
}

/** @param {Node} node */
export const lastOf = (node) => node.at + node.frames;
