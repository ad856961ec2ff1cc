// What explorer.js uses of three.js. To rebuild three.min.js:
//   npm install three@0.187.0 esbuild@0.28.2
//   npx esbuild three_entry.js --bundle --minify --format=iife --global-name=THREE \
//     --legal-comments=none --charset=utf8 --outfile=three.min.js \
//     --banner:js="/* three.js r187, MIT licence: LICENSE.three */"
export {
  BufferAttribute, BufferGeometry, ColorManagement, LinearSRGBColorSpace, LineBasicMaterial,
  LineSegments, Matrix4, PerspectiveCamera, Points, PointsMaterial, Scene, Vector3, WebGLRenderer,
} from 'three';
export { OrbitControls } from 'three/examples/jsm/controls/OrbitControls.js';
export { LineMaterial } from 'three/examples/jsm/lines/LineMaterial.js';
export { LineSegments2 } from 'three/examples/jsm/lines/LineSegments2.js';
export { LineSegmentsGeometry } from 'three/examples/jsm/lines/LineSegmentsGeometry.js';
