// The explorer of a report: a map in 3D, cameras, trajectories, and the image that a slider chooses.
// What it shows is in the page's JSON, see explorer.py. Without WebGL all but the 3D view works.
(() => {
  "use strict";
  const data = JSON.parse(document.getElementById("explored").textContent);
  const root = document.getElementById("explorer");
  const part = (name) => root.querySelector("." + name);
  const slider = part("slider");
  const shots = data.shots;
  let chosen = 0;
  let scene = null;

  // Arrays are base64 of 16-bit numbers between `low` and `low + 65535 step`, see `packed`.
  const bytes = (text) => Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
  const unpacked = ({ low, step, values }) => {
    const whole = new Uint16Array(bytes(values).buffer);
    return Float32Array.from(whole, (v, i) => low[i % low.length] + v * step[i % low.length]);
  };

  const choose = (index) => {
    chosen = Math.max(0, Math.min(shots.length - 1, index));
    const shot = shots[chosen];
    slider.value = shot.at;
    slider.setAttribute("aria-valuetext", shot.name);
    part("cursor").style.left = `${(100 * (shot.at + 0.5)) / data.length}%`;
    part("name").textContent = shot.name;
    const rows = shot.facts.map((fact) => {
      const row = document.createElement("tr");
      fact.forEach((text, i) => {
        row.appendChild(document.createElement(i ? "td" : "th")).textContent = text;
      });
      return row;
    });
    part("facts").replaceChildren(...rows);
    const photo = part("photo");
    photo.hidden = !shot.image;
    if (shot.image) {
      part("image").src = `data:image/jpeg;base64,${shot.image}`;
      part("image").alt = shot.name;
      const marks = part("marks");
      marks.setAttribute("viewBox", `-0.5 -0.5 ${shot.size[0]} ${shot.size[1]}`);
      const uv = shot.uv ? unpacked(shot.uv) : [];
      const radius = shot.size[0] / 130;
      let path = "";
      for (let i = 0; i < uv.length; i += 2) {
        path += `M${uv[i] - radius} ${uv[i + 1]}a${radius} ${radius} 0 1 0 ${2 * radius} 0`;
        path += `a${radius} ${radius} 0 1 0 ${-2 * radius} 0`;
      }
      marks.firstElementChild.setAttribute("d", path);
    }
    root.dataset.shot = chosen;
    if (scene) scene.show(shot);
  };

  const nearest = (at) => {
    const distance = (shot) => Math.abs(shot.at - at);
    return shots.reduce((best, shot, i) => (distance(shot) < distance(shots[best]) ? i : best), 0);
  };
  const remember = () => {
    try {
      history.replaceState(null, "", `#${shots[chosen].at}`);
    } catch (error) {
      // A page in a frame of another origin has no history.
    }
  };

  let timer = null;
  const stop = () => {
    clearInterval(timer);
    timer = null;
    part("play").textContent = "▶";
  };
  part("play").addEventListener("click", () => {
    if (timer) return stop();
    if (chosen === shots.length - 1) choose(0);
    part("play").textContent = "❚❚";
    timer = setInterval(() => (chosen < shots.length - 1 ? choose(chosen + 1) : stop()), 120);
  });
  slider.addEventListener("input", () => choose(nearest(+slider.value)));
  slider.addEventListener("change", remember);
  slider.addEventListener("keydown", (event) => {
    const step = { ArrowLeft: -1, ArrowDown: -1, ArrowRight: 1, ArrowUp: 1 }[event.key];
    if (!step) return;
    event.preventDefault();
    choose(chosen + step);
    remember();
  });
  part("timeline").addEventListener("click", (event) => {
    const box = part("timeline").getBoundingClientRect();
    choose(nearest((data.length * (event.clientX - box.left)) / box.width - 0.5));
    remember();
  });

  // The 3D view; throws where there is no WebGL.
  const view = () => {
    const { Vector3, Matrix4 } = THREE;
    THREE.ColorManagement.enabled = false;
    const canvas = part("canvas");
    const renderer = new THREE.WebGLRenderer({ canvas, antialias: true, alpha: true });
    renderer.outputColorSpace = THREE.LinearSRGBColorSpace;
    renderer.setPixelRatio(Math.min(devicePixelRatio, 2));
    const world = new THREE.Scene();
    const camera = new THREE.PerspectiveCamera(55, 1, data.radius / 500, data.radius * 50);
    const up = new Vector3(...data.up);
    camera.up.copy(up);
    const controls = new THREE.OrbitControls(camera, canvas);
    const draw = () => renderer.render(world, camera);
    const coloured = []; // [material, name of the CSS variable that has its colour]
    const themed = (material, name) => {
      coloured.push([material, name]);
      return material;
    };
    const geometry = (xyz, rgb) => {
      const made = new THREE.BufferGeometry();
      made.setAttribute("position", new THREE.BufferAttribute(xyz, 3));
      if (rgb) made.setAttribute("color", new THREE.BufferAttribute(rgb, 3, true));
      return made;
    };
    const groups = {};
    const add = (group, object) => {
      (groups[group] ??= []).push(object);
      world.add(object);
      return object;
    };
    for (const [name, cloud, size] of [["points", data.points, data.surfaces ? 2 : 4], ["surfaces", data.surfaces, 3]]) {
      if (!cloud) continue;
      const material = new THREE.PointsMaterial({ size: size * data.radius / 260, vertexColors: true });
      add(name, new THREE.Points(geometry(unpacked(cloud), bytes(cloud.rgb)), material));
    }
    const pairs = (path) => path.slice(1).flatMap((end, i) => (end && path[i] ? [...path[i], ...end] : []));
    const thick = (group, positions, colour, width) => {
      if (!positions.length) return null;
      const made = new THREE.LineSegmentsGeometry().setPositions(positions);
      return add(group, new THREE.LineSegments2(made, themed(new THREE.LineMaterial({ linewidth: width }), colour)));
    };
    thick("truth", pairs(data.truth ?? []), "--truth", 3);
    thick("estimate", pairs(data.estimate ?? []), "--estimate", 2);

    // Poses are the rows of (3, 4) world_from_camera.
    const matrix = (pose) => new Matrix4().set(...pose, 0, 0, 0, 1);
    const frustum = (shot, scale) => {
      const [left, top, right, bottom] = shot.window;
      const corners = [[left, top], [right, top], [right, bottom], [left, bottom]];
      const at = corners.map(([x, y]) => new Vector3(x * scale, y * scale, scale));
      const tip = new Vector3();
      return at.flatMap((corner, i) => [tip, corner, corner, at[(i + 1) % 4]]);
    };
    const placed = (shot, pose, scale) => {
      const move = matrix(pose);
      return frustum(shot, scale).flatMap((corner) => corner.clone().applyMatrix4(move).toArray());
    };
    const some = Math.ceil(shots.length / 40);
    const all = shots.flatMap((shot, i) =>
      shot.pose && (i % some === 0 || !data.estimate) ? placed(shot, shot.pose, data.radius / 30) : []);
    const thin = themed(new THREE.LineBasicMaterial({ transparent: true, opacity: 0.45 }), "--estimate");
    add("cameras", new THREE.LineSegments(geometry(new Float32Array(all)), thin));

    const rays = themed(new THREE.LineBasicMaterial({ transparent: true, opacity: 0.15 }), "--good");
    const dots = themed(
      new THREE.PointsMaterial({ size: 4, sizeAttenuation: false, depthTest: false, transparent: true }),
      "--good",
    );
    let marked = [];
    const show = (shot) => {
      for (const object of marked) {
        world.remove(object);
        object.geometry.dispose();
      }
      marked = [];
      const mark = (object) => {
        if (!object) return;
        world.add(object);
        marked.push(object);
      };
      if (shot.pose && shot.xyz) {
        const xyz = unpacked(shot.xyz);
        const [x, y, z] = [shot.pose[3], shot.pose[7], shot.pose[11]];
        const lines = new Float32Array(2 * xyz.length);
        for (let i = 0; i < xyz.length; i += 3) {
          lines.set([x, y, z, xyz[i], xyz[i + 1], xyz[i + 2]], 2 * i);
        }
        mark(new THREE.LineSegments(geometry(lines), rays));
        mark(new THREE.Points(geometry(xyz), dots));
      }
      for (const [pose, material] of [[shot.truth, truthLine], [shot.pose, chosenLine]]) {
        if (!pose) continue;
        const made = new THREE.LineSegmentsGeometry();
        mark(new THREE.LineSegments2(made.setPositions(placed(shot, pose, data.radius / 9)), material));
      }
      draw();
    };
    const truthLine = themed(new THREE.LineMaterial({ linewidth: 2.5 }), "--truth");
    const chosenLine = themed(new THREE.LineMaterial({ linewidth: 2.5 }), "--chosen");

    const paint = () => {
      const style = getComputedStyle(root);
      for (const [material, name] of coloured) material.color.set(style.getPropertyValue(name).trim());
      draw();
    };
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", paint);

    // From behind the cameras, above them.
    const target = new Vector3(...data.centre);
    const outside = () => {
      controls.target.copy(target);
      camera.position.fromArray(data.eye);
      controls.update();
    };
    const through = () => {
      const { pose } = shots[chosen];
      if (!pose) return;
      camera.position.set(pose[3], pose[7], pose[11]);
      const ahead = new Vector3(pose[2], pose[6], pose[10]).multiplyScalar(data.radius / 2);
      controls.target.copy(camera.position).add(ahead);
      controls.update();
    };
    part("outside").addEventListener("click", outside);
    part("through").addEventListener("click", through);
    for (const box of root.querySelectorAll("[data-group]")) {
      const toggle = () => {
        for (const object of groups[box.dataset.group] ?? []) object.visible = box.checked;
        draw();
      };
      box.addEventListener("change", toggle);
    }

    // A click beside a camera chooses it; a drag turns the view.
    let down = null;
    canvas.addEventListener("pointerdown", (event) => (down = [event.clientX, event.clientY]));
    canvas.addEventListener("pointerup", (event) => {
      if (!down || Math.hypot(event.clientX - down[0], event.clientY - down[1]) > 4) return;
      const box = canvas.getBoundingClientRect();
      let best = 24;
      let found = -1;
      shots.forEach(({ pose }, i) => {
        if (!pose) return;
        const at = new Vector3(pose[3], pose[7], pose[11]).project(camera);
        const x = box.left + ((at.x + 1) / 2) * box.width - event.clientX;
        const y = box.top + ((1 - at.y) / 2) * box.height - event.clientY;
        if (at.z < 1 && Math.hypot(x, y) < best) [best, found] = [Math.hypot(x, y), i];
      });
      if (found >= 0) {
        choose(found);
        remember();
      }
    });
    const fit = () => {
      const { clientWidth: width, clientHeight: height } = canvas;
      renderer.setSize(width, height, false);
      camera.aspect = width / Math.max(height, 1);
      camera.updateProjectionMatrix();
      draw();
    };
    root.classList.add("drawn");
    new ResizeObserver(fit).observe(canvas);
    controls.addEventListener("change", draw);
    fit();
    outside();
    paint();
    return { show };
  };

  root.classList.add("live");
  try {
    scene = view();
  } catch (error) {
    root.classList.remove("drawn");
    root.classList.add("flat");
    console.warn(`no 3D view: ${error.message}`);
  }
  root.dataset.view = scene ? "3d" : "picture";
  const asked = location.hash.slice(1);
  choose(asked && isFinite(asked) ? nearest(+asked) : shots.length >> 1);
  addEventListener("hashchange", () => {
    const at = location.hash.slice(1);
    if (at && isFinite(at)) choose(nearest(+at));
  });
})();
