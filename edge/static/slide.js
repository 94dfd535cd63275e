// The slide that grows: tiles come straight from the file, and again when they change.

// How many changed tiles are fetched at a time, beside those that moving about asks for.
const FETCHES = 4;

export class Slide {
  constructor(element, onPick) {
    this.shape = null;
    this.viewer = null;
    this.onOpen = () => {};
    this.onShown = () => {};
    this._element = element;
    this._onPick = onPick;
    this._versions = new Map();
    this._changed = new Map();
    this._fetching = 0;
    this._fresh = new WeakMap();
  }

  // Show a slide of this shape; again for another file, never twice for the same.
  open(shape) {
    if (this.shape && this.shape.generation === shape.generation) return;
    this.shape = shape;
    this._versions.clear();
    this._changed.clear();
    const [width, height] = shape.levels[0];
    const maxLevel = shape.levels.length - 1;
    const source = {
      width,
      height,
      tileSize: shape.tile_px,
      minLevel: 0,
      maxLevel,
      getTileUrl: (level, x, y) => this._url(maxLevel - level, y, x),
    };
    if (this.viewer) this.viewer.open(source);
    else this._create(source);
  }

  // Note changed tiles: [level, row, column, version] each.
  refresh(tiles) {
    for (const [level, row, column, version] of tiles) {
      const key = `${level}/${row}/${column}`;
      this._versions.set(key, version);
      if (this._entry(level, row, column)) this._changed.set(key, [level, row, column]);
    }
    this._fetchNext();
  }

  zoom(factor) {
    if (!this.viewer) return;
    this.viewer.viewport.zoomBy(factor);
    this.viewer.viewport.applyConstraints();
  }

  home() {
    if (this.viewer) this.viewer.viewport.goHome();
  }

  // Lay an element over a part of the slide, in its full-resolution pixels.
  overlay(element, x, y, width, height) {
    const rectangle = this.viewer.viewport.imageToViewportRectangle(x, y, width, height);
    if (this.viewer.getOverlayById(element)) this.viewer.updateOverlay(element, rectangle);
    else this.viewer.addOverlay({ element, location: rectangle });
  }

  _create(source) {
    const calm = matchMedia("(prefers-reduced-motion: reduce)").matches;
    this.viewer = OpenSeadragon({
      element: this._element,
      tileSources: source,
      drawer: "canvas",
      showNavigationControl: false,
      animationTime: calm ? 0 : 0.5,
      // A new tile replaces the old one at once: fading would flicker.
      blendTime: 0,
      tileRetryMax: 3,
      visibilityRatio: 0.5,
      maxZoomPixelRatio: 4,
      gestureSettingsMouse: { clickToZoom: false, dblClickToZoom: true },
      gestureSettingsTouch: { pinchRotate: false },
      gestureSettingsPen: { clickToZoom: false },
    });
    this.viewer.addHandler("open", () => this.onOpen());
    this.viewer.addHandler("tile-invalidated", async (event) => {
      const picture = this._fresh.get(event.tile);
      if (picture) await event.setData(picture, "image");
    });
    this.viewer.addHandler("canvas-click", (event) => {
      if (!event.quick) return;
      const point = this.viewer.viewport.viewerElementToImageCoordinates(event.position);
      this._onPick(point.x, point.y);
    });
  }

  _url(level, row, column) {
    const version = this._versions.get(`${level}/${row}/${column}`);
    return `/tile/${level}/${row}/${column}?v=${version || `${this.shape.generation}-0`}`;
  }

  _image() {
    return this.viewer && this.viewer.world.getItemAt(0);
  }

  _matrixColumn(level, column) {
    const image = this._image();
    const levels = image && image.tilesMatrix;
    return levels?.[this.shape.levels.length - 1 - level]?.[column];
  }

  _entry(level, row, column) {
    return this._matrixColumn(level, column)?.[row];
  }

  // OpenSeadragon knows no "this tile changed". So the new picture is fetched beside it
  // and handed over in its event for tiles that are to be drawn anew: the old picture
  // stays until the new one is ready, and nothing flickers.
  _fetchNext() {
    while (this._fetching < FETCHES && this._changed.size) {
      const [key, [level, row, column]] = this._changed.entries().next().value;
      this._changed.delete(key);
      this._fetching += 1;
      const picture = new Image();
      picture.src = this._url(level, row, column);
      picture
        .decode()
        .then(() => this._replace(level, row, column, picture))
        // Its next version will come, or a move of the view asks again.
        .catch((problem) => console.warn("a changed tile was not shown:", problem))
        .finally(() => {
          this._fetching -= 1;
          this._fetchNext();
        });
    }
  }

  async _replace(level, row, column, picture) {
    const tiles = this._matrixColumn(level, column);
    const tile = tiles?.[row];
    if (!tile) return;
    if (tile.loaded) {
      this._fresh.set(tile, picture);
      await this.viewer.world.requestTileInvalidateEvent([tile], OpenSeadragon.now());
    } else {
      delete tiles[row]; // on its way with the old address: ask again, for the new one
      this.viewer.forceRedraw();
    }
    requestAnimationFrame(() => this.onShown(level, row, column));
  }
}
