/** Drag points, whole strokes and outlines; double-click a line to add a point. */
import { strokeUnder, targetRadius } from "../hits.js";
import { distance } from "../geometry.js";
import { isOver, movedBy, withAddedPoint, withPoint } from "../strokes.js";

/** @param {import("../editor.js").Editor} editor @returns {import("./tools.js").Tool} */
export function selectTool(editor) {
  /** @type {{kind: "point" | "stroke" | "outline", id: string, point: number, from: import("../geometry.js").Point, original: any, moved: boolean} | null} */
  let drag = null;

  /** @param {import("../stage.js").Pen} pen */
  const hitAt = (pen) => {
    const { frame, selected } = editor.state;
    const { num_frames: numFrames } = editor.document.settings;
    const strokes = editor.document.strokes.filter((stroke) => !isOver(stroke, frame, numFrames));
    return strokeUnder(strokes, selected, pen.stage, targetRadius(pen.type), editor.view);
  };

  /** The corner of the selected outline under the pen. @param {import("../stage.js").Pen} pen */
  const cornerAt = (pen) => {
    const region = editor.document.regions.find((one) => one.id === editor.state.region);
    if (!region?.polygon || editor.state.frame > 0) return null;
    const point = region.polygon.findIndex((corner) => distance(editor.view.toStage(corner), pen.stage) < targetRadius(pen.type));
    return point < 0 ? null : { region, point };
  };

  return {
    id: "select", key: "V", title: "Select", cursor: "default",
    hint: "Click a stroke, then drag its points. Double-click its line to add a point.",
    down(pen) {
      const corner = cornerAt(pen);
      if (corner) {
        drag = { kind: "outline", id: corner.region.id, point: corner.point, from: pen.picture, original: corner.region, moved: false };
        return;
      }
      const hit = hitAt(pen);
      if (!hit) {
        const region = editor.state.frame === 0 ? editor.shapes.at(editor.document.regions, pen.picture) : null;
        return region ? editor.selectRegion(region.id) : editor.select(null);
      }
      const { stroke } = hit;
      if (hit.point === null && pen.count === 2 && stroke.kind === "move") {
        editor.replaceStroke(withAddedPoint(stroke, hit.segment, hit.share));
        return editor.select(stroke.id, hit.segment + 1);
      }
      editor.select(stroke.id, hit.point);
      const kind = hit.point === null || hit.point === 0 ? "stroke" : "point"; // the start moves all
      drag = { kind, id: stroke.id, point: hit.point ?? 0, from: pen.picture, original: stroke, moved: false };
    },
    move(pens) {
      if (!drag) return;
      const pen = pens[pens.length - 1];
      const [dx, dy] = [pen.picture[0] - drag.from[0], pen.picture[1] - drag.from[1]];
      if (!drag.moved && Math.hypot(dx, dy) * editor.view.scale < 2) return;
      drag.moved = true;
      const label = `drag ${drag.id}`;
      if (drag.kind === "outline") {
        const { id, point, original } = drag;
        const polygon = original.polygon.map((/** @type {any} */ corner, /** @type {number} */ i) => (i === point ? [corner[0] + dx, corner[1] + dy] : corner));
        const regions = editor.document.regions.map((region) => (region.id === id ? { ...region, polygon } : region));
        return editor.edit({ ...editor.document, regions }, label);
      }
      const old = /** @type {import("../strokes.js").Stroke} */ (drag.original);
      const [x, y] = old.points[drag.point];
      const changed = drag.kind === "stroke" ? movedBy(old, dx, dy) : withPoint(old, drag.point, editor.view.clampToReach([x + dx, y + dy]));
      if (changed.points.every((point) => editor.view.clampToReach(point).every((value, i) => value === point[i]))) editor.replaceStroke(changed, label);
    },
    up() {
      drag = null;
      editor.commit();
    },
    cancel() {
      if (drag?.moved) {
        editor.history.abandon();
        editor.changed();
      }
      drag = null;
    },
  }; // prettier-ignore
}
