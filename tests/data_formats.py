"""Small recordings of a plane in the layouts of every data set, written without our readers.

Each function writes below a data root and returns the recording's name. Layouts follow the data
sets' documentation (see the readers' modules); only 7-Scenes and TUM were checked on real files.
"""

import json
import pickle
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
from data_scene import CAMERA, PlaneSource, plane_depth, pose, texture

from ace_jax.data.export import export
from ace_jax.geometry.rigid import to_quaternion

COUNT = 5
LOST = 3  # the frame whose pose is not usable, where a format can say so
OPENGL = np.diag([1.0, -1.0, -1.0, 1.0])
DEPTH_CAMERA = CAMERA.replace(fx=25.0, fy=26.0, cx=15.5, cy=11.5, width=32, height=24)


def colour(path: Path, i: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    options = [cv2.IMWRITE_JPEG_QUALITY, 98] if path.suffix == ".jpg" else []
    cv2.imwrite(str(path), texture(CAMERA, pose(i))[:, :, ::-1], options)


def depth(path: Path, i: int, units: float = 1000.0, camera=CAMERA) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), np.uint16(np.rint(units * plane_depth(camera, pose(i)))))


def text(path: Path, content: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)


def rows(matrix: np.ndarray) -> str:
    return "\n".join(" ".join(f"{v:.9f}" for v in row) for row in matrix) + "\n"


def lost_pose(i: int) -> np.ndarray:
    return np.full((4, 4), -np.inf) if i == LOST else pose(i)


def info(camera, depth_camera) -> str:
    lines = []
    for which, c in (("Color", camera), ("Depth", depth_camera)):
        lines += [
            f"m_{which.lower()}Width = {c.width}",
            f"m_{which.lower()}Height = {c.height}",
            f"m_calibration{which}Intrinsic = {c.fx} 0 {c.cx} 0 0 {c.fy} {c.cy} 0 0 0 1 0 0 0 0 1",
        ]
    return "\n".join(lines) + "\n"


def exported(layout: str, folder: str, name: str) -> Callable[[Path], str]:
    def write(root: Path) -> str:
        export(PlaneSource(COUNT), root / folder, layout)
        return name

    return write


def twelve_scenes(root: Path) -> str:
    folder = root / "12scenes/apt1/kitchen"
    text(folder / "info.txt", info(CAMERA, DEPTH_CAMERA))
    text(
        folder / "split.txt",
        "sequence0 [frames=2] [start=0 ; end=1]\nsequence1 [frames=3] [start=2 ; end=4]\n",
    )
    for i in range(COUNT):
        stem = folder / f"data/frame-{i:06d}"
        colour(stem.with_suffix(".color.jpg"), i)
        depth(stem.with_suffix(".depth.png"), i, camera=DEPTH_CAMERA)
        text(stem.with_suffix(".pose.txt"), rows(lost_pose(i)))
    return "12scenes/apt1/kitchen"


def scannet(root: Path) -> str:
    folder = root / "scannet/scene0000_00"
    for which, c in (("color", CAMERA), ("depth", DEPTH_CAMERA)):
        k = np.eye(4)
        k[:2, :3] = [[c.fx, 0, c.cx], [0, c.fy, c.cy]]
        text(folder / f"intrinsic/intrinsic_{which}.txt", rows(k))
    for i in range(COUNT):
        colour(folder / f"color/{i}.jpg", i)
        depth(folder / f"depth/{i}.png", i, camera=DEPTH_CAMERA)
        text(folder / f"pose/{i}.txt", rows(lost_pose(i)))
    return "scannet/scene0000_00"


def cambridge(root: Path) -> str:
    folder = root / "cambridge/KingsCollege"
    lines, focals = [], []
    for i in range(COUNT):
        name = f"seq1/frame{i:05d}"
        colour(folder / f"{name}.png", i)
        centre, w2c = pose(i)[:3, 3], to_quaternion(pose(i)[:3, :3].T)
        lines.append(f"{name}.png " + " ".join(f"{v:.9f}" for v in (*centre, *w2c)))
        focals.append(f"{name}.jpg {50 + i} 1 0 0 0 0 0 0 0.01 0")
    header = "Visual Landmark Dataset V1\nImageFile, Camera Position [X Y Z W P Q R]\n\n"
    text(folder / "dataset_train.txt", header + "\n".join(lines[:3]) + "\n")
    text(folder / "dataset_test.txt", header + "\n".join(lines[3:]) + "\n")
    text(folder / "reconstruction.nvm", f"NVM_V3 \n\n{COUNT}\n" + "\n".join(focals) + "\n\n0\n")
    return "cambridge/KingsCollege"


def indoor6(root: Path) -> str:
    folder = root / "indoor6/scene1"
    names = []
    for i in range(COUNT):
        stem = folder / f"images/image-{i:06d}"
        names.append(f"image-{i:06d}.color.jpg")
        colour(stem.with_suffix(".color.jpg"), i)
        w2c = np.linalg.inv(pose(i))[:3]
        text(stem.with_suffix(".pose.txt"), rows(w2c if i != LOST else np.full((3, 4), np.nan)))
        text(stem.with_suffix(".intrinsics.txt"), f"64 48 {50 + i}.0 32.0 24.0\n")
    lists = {"train": names[:3], "val": [], "test": names[3:], "train_idx": [0, 1, 2]}
    (folder / "train_test_val.pkl").write_bytes(pickle.dumps(lists))
    return "indoor6/scene1"


def rio10(root: Path) -> str:
    for sequence in ("seq01_01", "seq01_02"):
        folder = root / f"rio10/scene01/{sequence}"
        text(
            folder / "camera.yaml",
            "camera_intrinsics:\n  height: 48\n  model: [50.0, 52.0, 31.5, 23.5]\n  width: 64\n",
        )
        for i in range(COUNT):
            stem = folder / f"frame-{i:06d}"
            colour(stem.with_suffix(".color.jpg"), i)
            depth(stem.with_suffix(".rendered.depth.png"), i)
            text(stem.with_suffix(".pose.txt"), rows(lost_pose(i)))
    return "rio10/scene01/seq01_01"


def icl(root: Path) -> str:
    folder = root / "icl/living_room_traj0_frei_png"
    mirror = np.diag([1.0, -1.0, 1.0, 1.0])
    pairs, truth = [], []
    for i in range(COUNT):
        colour(folder / f"rgb/{i}.png", i)
        depth(folder / f"depth/{i}.png", i, 5000.0)
        pairs.append(f"{i} depth/{i}.png {i} rgb/{i}.png")
        published = mirror @ pose(i) @ mirror
        w, x, y, z = to_quaternion(published[:3, :3])
        truth.append(f"{i} " + " ".join(f"{v:.9f}" for v in (*published[:3, 3], x, y, z, w)))
    text(folder / "associations.txt", "\n".join(pairs) + "\n")
    values = {"fx": 50, "fy": 52, "cx": 31.5, "cy": 23.5, "width": 64, "height": 48}
    text(folder / "intrinsics.json", json.dumps(values))
    text(folder / "livingRoom0.gt.freiburg", "\n".join(truth) + "\n")
    return "icl/living_room_traj0"


def nerfstudio(root: Path) -> str:
    folder = root / "nerfstudio_capture"
    frames = []
    for i in range(COUNT):
        colour(folder / f"images/frame_{i:05d}.png", i)
        depth(folder / f"depths/frame_{i:05d}.png", i, camera=DEPTH_CAMERA)
        frames.append(
            {
                "file_path": f"images/frame_{i:05d}.png",
                "depth_file_path": f"depths/frame_{i:05d}.png",
                "transform_matrix": (lost_pose(i) @ OPENGL).tolist() if i != LOST else None,
                "fl_x": CAMERA.fx + i,
            }
        )
    names = [frame["file_path"] for frame in frames]
    values = {
        "camera_model": "OPENCV",
        "fl_x": 1.0,
        "fl_y": CAMERA.fy,
        "cx": CAMERA.cx + 0.5,
        "cy": CAMERA.cy + 0.5,
        "w": 64,
        "h": 48,
        "frames": frames,
        "train_filenames": names[:3],
        "test_filenames": names[3:],
    }
    text(folder / "transforms.json", json.dumps(values))
    return "nerfstudio/nerfstudio_capture"


def record3d(root: Path) -> str:
    folder = root / "phone"
    poses = []
    for i in range(COUNT):
        colour(folder / f"rgb/{i}.jpg", i)
        depth(folder / f"depth/{i}.png", i, camera=DEPTH_CAMERA)
        gl = pose(i) @ OPENGL
        w, x, y, z = to_quaternion(gl[:3, :3])
        poses.append([x, y, z, w, *gl[:3, 3]] if i != LOST else [float("nan")] * 7)
    c = CAMERA
    values = {
        "w": 64,
        "h": 48,
        "fps": 60,
        "K": [c.fx, 0, 0, 0, c.fy, 0, c.cx, c.cy, 1],
        "poses": poses,
        "perFrameIntrinsicCoeffs": [[c.fx + i, c.fy, c.cx, c.cy] for i in range(COUNT)],
        "frameTimestamps": [i / 60 for i in range(COUNT)],
    }
    text(folder / "metadata.json", json.dumps(values))
    return "record3d/phone"


def polycam(root: Path) -> str:
    folder = root / "tablet"
    for i in range(COUNT):
        stem = f"{1000000 + 33333 * i}"
        colour(folder / f"keyframes/images/{stem}.jpg", i)
        depth(folder / f"keyframes/depth/{stem}.png", i, camera=DEPTH_CAMERA)
        gl = pose(i) @ OPENGL
        entries = {f"t_{r}{c}": gl[r, c] for r in range(3) for c in range(4)} if i != LOST else {}
        c = CAMERA
        values = {"fx": c.fx + i, "fy": c.fy, "cx": c.cx, "cy": c.cy, "width": 64, "height": 48}
        text(folder / f"keyframes/cameras/{stem}.json", json.dumps(values | entries))
    return "polycam/tablet"


def video(root: Path) -> str:
    root.mkdir(parents=True, exist_ok=True)
    writer = cv2.VideoWriter(
        str(root / "clip.avi"), cv2.VideoWriter_fourcc(*"MJPG"), 25.0, (64, 48)
    )
    for i in range(COUNT):
        writer.write(texture(CAMERA, pose(i))[:, :, ::-1])
    writer.release()
    text(root / "clip.json", json.dumps({"fx": 50, "fy": 52, "cx": 31.5, "cy": 23.5}))
    return "video/clip.avi"


def bag(root: Path, *, version: int = 2, storage: str = "sqlite3", compressed: bool = False) -> str:
    """Written by `rosbags`: colour as rgb8 (or JPEG), depth as 16UC1, and camera_info."""
    from rosbags import rosbag1, rosbag2
    from rosbags.typesys import Stores, get_typestore

    root.mkdir(parents=True, exist_ok=True)
    store = get_typestore(Stores.ROS1_NOETIC if version == 1 else Stores.ROS2_HUMBLE)
    types = store.types
    image_type = f"sensor_msgs/msg/{'CompressedImage' if compressed else 'Image'}"

    def header(t: float):
        stamp = types["builtin_interfaces/msg/Time"](sec=int(t), nanosec=round(t % 1 * 1e9))
        counter = {"seq": 0} if version == 1 else {}
        return types["std_msgs/msg/Header"](stamp=stamp, frame_id="camera", **counter)

    def image(t: float, pixels: np.ndarray, encoding: str):
        return types["sensor_msgs/msg/Image"](
            header=header(t),
            height=48,
            width=64,
            encoding=encoding,
            is_bigendian=0,
            step=pixels.strides[0],
            data=pixels.reshape(-1).view(np.uint8),
        )

    def picture(t: float, rgb: np.ndarray):
        if not compressed:
            return image(t, rgb, "rgb8")
        data = cv2.imencode(".png", rgb[:, :, ::-1])[1].ravel()
        return types[image_type](header=header(t), format="png", data=data)

    k = np.array([50, 0, 31.5, 0, 52, 23.5, 0, 0, 1.0])
    values = {"D": np.zeros(5), "K": k, "R": np.eye(3).ravel(), "P": np.zeros(12)}
    if version == 2:
        values = {key.lower(): value for key, value in values.items()}
    roi = types["sensor_msgs/msg/RegionOfInterest"](0, 0, 0, 0, False)
    intrinsics = types["sensor_msgs/msg/CameraInfo"](
        header=header(10.0),
        height=48,
        width=64,
        distortion_model="plumb_bob",
        binning_x=0,
        binning_y=0,
        roi=roi,
        **values,
    )
    name = f"bag{version}{storage}{'c' if compressed else ''}"
    if version == 1:
        path = root / f"{name}.bag"
        writer, serialize = rosbag1.Writer(path), store.serialize_ros1
    else:
        path = root / name
        plugin = rosbag2.StoragePlugin[storage.upper()]
        writer = rosbag2.Writer(path, version=8, storage_plugin=plugin)
        serialize = store.serialize_cdr
    with writer:
        topics = {
            topic: writer.add_connection(topic, kind, typestore=store)
            for topic, kind in (
                ("/camera/color/camera_info", "sensor_msgs/msg/CameraInfo"),
                ("/camera/color/image_raw", image_type),
                ("/camera/aligned_depth_to_color/image_raw", "sensor_msgs/msg/Image"),
            )
        }

        def write(topic: str, kind: str, t: float, message) -> None:
            writer.write(topics[topic], round(t * 1e9), serialize(message, kind))

        write("/camera/color/camera_info", "sensor_msgs/msg/CameraInfo", 10.0, intrinsics)
        for i in range(COUNT):
            t = 10.0 + i / 30
            units = np.uint16(np.rint(1000 * plane_depth(CAMERA, pose(i))))
            write("/camera/color/image_raw", image_type, t, picture(t, texture(CAMERA, pose(i))))
            late = image(t + 0.004, units, "16UC1")
            topic = "/camera/aligned_depth_to_color/image_raw"
            write(topic, "sensor_msgs/msg/Image", t + 0.004, late)
    return f"bag/{path.name}"


# By kind of recording: what writes one.
WRITERS: dict[str, Callable[[Path], str]] = {
    "7scenes": exported("7scenes", "7scenes/chess/seq-01", "7scenes/chess/seq-01"),
    "tum": exported("tum", "tum/rgbd_dataset_freiburg1_plane", "tum/freiburg1_plane"),
    "bonn": exported("tum", "bonn/rgbd_bonn_plane", "bonn/plane"),
    "replica": exported("replica", "replica/room0", "replica/room0"),
    "folder": exported("folder", "own", "folder/own"),
    "ace": exported("ace", "scene/train", "ace/scene"),
    "colmap": exported("colmap", "model", "colmap/model"),
    "12scenes": twelve_scenes,
    "scannet": scannet,
    "cambridge": cambridge,
    "indoor6": indoor6,
    "rio10": rio10,
    "icl": icl,
    "nerfstudio": nerfstudio,
    "record3d": record3d,
    "polycam": polycam,
    "video": video,
    "bag": bag,
}
