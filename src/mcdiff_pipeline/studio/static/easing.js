/**
 * How a speed changes over the time of a stroke or of a move of the camera.
 *
 * @typedef {"linear" | "ease-in" | "ease-out" | "ease-in-out"} Ease
 */

/** From the share of the time to that of the way, as the library has them. @type {Record<Ease, (time: number) => number>} */
export const EASES = { linear: (t) => t, "ease-in": (t) => t * t, "ease-out": (t) => t * (2 - t), "ease-in-out": (t) => t * t * (3 - 2 * t) };
export const EASE_NAMES = /** @type {Record<Ease, string>} */ ({ linear: "even", "ease-in": "starts slowly", "ease-out": "ends slowly", "ease-in-out": "starts and ends slowly" });
