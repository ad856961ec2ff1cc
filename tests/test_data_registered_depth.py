"""The depth camera beside the colour camera is found, depth is warped, and doubt is told."""

import dataclasses

import numpy as np
import pytest
from data_scene import PlaneSource
from depth_beside import Rig, frames_beside, pixel_error
from scipy.spatial.transform import Rotation

from ace_jax.data import depth_camera, edge_fit, registered_depth
from ace_jax.data.checks import registration
from ace_jax.data.depth_camera import DepthCamera, estimate
from ace_jax.data.frame import BadFrame, Frame, FrameSource
from ace_jax.data.live import Live
from ace_jax.data.prefetch import Prefetcher
from ace_jax.data.recording import iterate
from ace_jax.data.registered_depth import RegisteredDepth, register_depth, registered, unregistered
from ace_jax.data.registry import open_sequence
from ace_jax.data.subset import SubsetSource
from ace_jax.errors import UserError
from ace_jax.synthetic.source import SyntheticSource

pytestmark = pytest.mark.optimized

# Like a RealSense's: the depth camera beside the colour camera sees more.
RIG = Rig(turn=(0.006, -0.010, 0.008), place=(0.035, -0.004, 0.003), ratio=0.75)
FRAMES = 24


class Frames:
    """Frames in memory as a source; counts what is read."""

    name, has_depth = "frames", True

    def __init__(self, frames: list[Frame], **attributes) -> None:
        self.frames, self.camera, self.read = frames, frames[0].camera, []
        vars(self).update(attributes)

    def __len__(self):
        return len(self.frames)

    def __getitem__(self, index):
        self.read.append(index)
        if isinstance(self.frames[index], Exception):
            raise self.frames[index]
        return dataclasses.replace(self.frames[index], index=index % len(self))

    def __iter__(self):
        return iterate(self)

    def timestamps(self):
        return np.arange(len(self)) / 30

    def names(self):
        return [frame.name for frame in self.frames]

    def poses(self):
        return None


@pytest.fixture(scope="module")
def room():
    """A room that no constant was chosen on: frames with the rig's depth, and registered depth."""
    return frames_beside("room1", RIG, FRAMES)


@pytest.fixture(scope="module")
def found(room) -> DepthCamera:
    return estimate(room[0])


def parameters(camera: DepthCamera, colour) -> np.ndarray:
    turn = Rotation.from_matrix(camera.colour_from_depth[:3, :3]).as_rotvec()
    ratio = np.log(camera.camera.fx / colour.fx)
    return np.array([*turn, *camera.colour_from_depth[:3, 3], ratio])


def test_a_known_rig_is_found_within_its_errors(room, found):
    frames, _ = room
    error = parameters(found, frames[0].camera) - [*RIG.turn, *RIG.place, np.log(RIG.ratio)]
    assert (np.abs(error) < 4 * found.deviations).all(), error / found.deviations
    assert found.focal == "estimated"
    assert np.abs(error[6]) < 0.01
    assert found.deviations[6] < 0.01
    assert found.fit > 5 * found.fit_before
    assert pixel_error(found, RIG, frames) < min(2.0, 3 * found.pixels)


def test_depth_is_what_the_colour_camera_would_measure(room, found):
    frames, truth = room
    source = RegisteredDepth(Frames(frames), found)
    assert isinstance(source, FrameSource)

    def agreement(shown):
        shares = []
        for frame, depth in zip(shown, truth, strict=True):
            known = (frame.depth > 0) & (depth > 0)
            assert known.mean() > 0.85
            shares.append(np.mean(np.abs(frame.depth - depth)[known] < 0.02 * depth[known]))
        return np.mean(shares)

    with Prefetcher(source, workers=3) as read:
        warped = list(read)
    assert agreement(frames) < 0.6
    assert agreement(warped) > 0.93
    assert [frame.index for frame in warped] == list(range(FRAMES))


def test_a_focal_length_that_is_given_is_taken(room):
    colour = room[0][0].camera
    camera = estimate(room[0], focal=float(colour.fx) * RIG.ratio)
    assert camera.focal == "given"
    assert camera.camera.fx == pytest.approx(colour.fx * RIG.ratio)
    assert camera.deviations[6] == 0
    assert pixel_error(camera, RIG, room[0]) < 2.0


def test_a_focal_length_that_edges_do_not_tell_is_assumed(room, monkeypatch):
    same = dataclasses.replace(RIG, ratio=1.0)
    frames, _ = frames_beside("room1", same, FRAMES)
    monkeypatch.setattr(depth_camera, "_MAX_FOCAL_ERROR", 0.0)
    camera = estimate(frames)
    assert camera.focal == "assumed"
    assert camera.camera.fx == frames[0].camera.fx
    assert pixel_error(camera, same, frames) < 2.0


def test_a_realsense_is_found(shared_dir):
    """A D435: its colour camera is 15 mm beside; 69 degrees wide as the depth camera is 87."""
    source = open_sequence("folder/realsense_lab", shared_dir / "data/folders")
    done = register_depth(source)
    camera = done.depth_camera
    assert camera.colour_from_depth[:3, 3] == pytest.approx([0.015, 0, 0], abs=0.008)
    assert np.degrees(Rotation.from_matrix(camera.colour_from_depth[:3, :3]).magnitude()) < 1
    assert camera.camera.fx == pytest.approx(392, abs=8)
    assert camera.fit > 10 * camera.fit_before
    # On frames that took no part.
    others = [done[i] for i in range(2, 110, 7)]
    alignment = registration.align(others)
    assert alignment.centre > 0.9 * alignment.peak > 0.5
    assert registration.judge(alignment) == []
    assert registration.align([source[i] for i in range(2, 110, 7)]).centre < 0.3 * alignment.centre


def test_a_kinect_is_found(shared_dir):
    """7-Scenes before its reader registers it; the calibration is published."""
    source = open_sequence("7scenes/redkitchen/seq-01", shared_dir / "data")
    source._to_colour = None
    camera = register_depth(source).depth_camera
    assert camera.colour_from_depth[:2, 3] == pytest.approx([-0.0256, 0.0], abs=0.012)
    assert camera.camera.fx == pytest.approx(585, rel=0.025)
    assert camera.fit > 3 * camera.fit_before


def test_what_was_found_is_told_and_noted(found):
    text = str(found)
    assert "\n" not in text
    assert "focal length" in text
    assert text.count("+-") == 3
    facts = found.facts()
    assert np.shape(facts["colour_from_depth"]) == (4, 4)
    assert len(facts["translation_sigma_m"]) == len(facts["rotation_sigma_rad"]) == 3
    assert facts["depth_focal"] == "estimated"


def refusal(frames, **options) -> str:
    with pytest.raises(UserError) as caught:
        register_depth(Frames(frames, **options))
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_registered_depth_is_left_alone(room):
    frames, truth = room
    frames = [dataclasses.replace(f, depth=d) for f, d in zip(frames, truth, strict=True)]
    assert "already" in refusal(frames)
    assert unregistered(Frames(frames)) is None


def test_what_cannot_be_told_is_refused(room):
    frames, _ = room
    mixed = [
        dataclasses.replace(frame, depth=frames[(i + 7) % FRAMES].depth)
        for i, frame in enumerate(frames)
    ]
    assert "nowhere" in refusal(mixed)
    flat = [dataclasses.replace(frame, depth=np.full_like(frame.depth, 2.0)) for frame in frames]
    assert "near and far" in refusal(flat)
    empty = [dataclasses.replace(frame, depth=np.zeros_like(frame.depth)) for frame in frames]
    assert "near and far" in refusal(empty)
    assert "near and far" in refusal(frames[:2])
    source = Frames(frames)
    source.frames = [BadFrame("gone")] * 5
    with pytest.raises(UserError, match="of 0 frames"):
        register_depth(source)


def test_doubt_is_told_with_its_reason(room, monkeypatch):
    fit = depth_camera._Found(
        parameters=np.zeros(7),
        deviations=np.full(7, 0.01),
        pixels=1.0,
        fit=2.0,
        fit_before=0.3,
        gain=1.5,
        gain_error=0.1,
    )

    edges = edge_fit.Edges.of(room[0][:6])
    monkeypatch.setattr(edge_fit.Edges, "of", lambda _: edges)

    def said(focal=None, **changed):
        monkeypatch.setattr(depth_camera, "_fit", lambda *_: dataclasses.replace(fit, **changed))
        with pytest.raises(UserError) as caught:
            estimate([], focal)
        return str(caught.value)

    assert "6.0 px (of 640) only" in said(pixels=6.0)
    assert "--depth_focal" in said(pixels=6.0)
    assert "--depth_focal" not in said(pixels=6.0, focal=200.0)
    assert "+1.50 +- 0.70" in said(gain_error=0.7)
    assert "nowhere" in said(fit=0.4, fit_before=0.0, gain=0.4)
    assert "already" in said(fit_before=1.98, gain=0.02, gain_error=0.001)


def test_bad_frames_and_bad_depth_do_not_stop_it(room, found):
    frames = list(room[0])
    for number, value in ((3, np.nan), (5, np.inf), (7, -1.0)):
        depth = frames[number].depth.copy()
        depth[40:60] = value
        frames[number] = dataclasses.replace(frames[number], depth=depth)
    frames[2] = dataclasses.replace(frames[2], depth=frames[2].depth[::2])
    source = Frames(frames)
    frames[9] = BadFrame("truncated")
    assert len(registered_depth._spread(source, FRAMES)) == FRAMES - 2
    for number in (3, 5, 7):
        assert edge_fit.depth_edges(frames[number]) is not None
        for values in edge_fit.depth_edges(frames[number]):
            assert np.isfinite(values).all()
    done = RegisteredDepth(source, found)
    for number in (3, 5, 7):
        assert np.isfinite(done[number].depth).all()
        assert (done[number].depth >= 0).all()
    with pytest.raises(BadFrame, match="truncated"):
        done[9]
    with pytest.raises(BadFrame, match="depth of 320x120"):
        done[2]


def test_a_live_source_is_not_touched(room, capsys):
    source = Frames(room[0], random_access=False)
    assert registered(source, wanted=False) is source
    assert source.read == []
    assert capsys.readouterr().err == ""
    with pytest.raises(UserError, match="live"):
        register_depth(source)
    assert source.read == []
    assert not Live.random_access


def test_a_rendered_source_is_not_rendered_for_it(room, capsys):
    source = Frames(room[0])
    source.rendered = True
    for seen in (source, SubsetSource(source, stride=1)):
        assert registered(seen, wanted=False) is seen
    assert source.read == []
    assert capsys.readouterr().err == ""
    assert SyntheticSource.rendered


def test_colour_alone_and_a_focal_length_for_nothing(room):
    source = Frames(room[0], has_depth=False)
    assert registered(source, wanted=False) is source
    with pytest.raises(UserError, match="no depth"):
        registered(source, wanted=True)
    with pytest.raises(UserError, match="give both"):
        registered(Frames(room[0]), wanted=False, focal=300.0)


def test_unregistered_depth_is_told_in_one_line(room, found, capsys, monkeypatch):
    monkeypatch.setattr(depth_camera, "estimate", lambda *_: found)
    source = Frames(room[0])
    assert registered(source, wanted=False) is source
    line = capsys.readouterr().err
    assert line.count("\n") == 1
    assert "--register_depth" in line
    assert len(source.read) <= registered_depth.LOOK_FRAMES
    done = registered(source, wanted=True)
    assert "depth camera at" in capsys.readouterr().err
    assert registered_depth.facts(done)["depth_camera"]["edge_fit"] > 1
    assert registered_depth.facts(source) == {}
    assert unregistered(done) is None


def test_a_second_of_a_fast_turn_is_no_evidence(shared_dir):
    """Depth is some milliseconds late there, which looks like a camera beside."""
    source = open_sequence("tum/freiburg1_rpy", shared_dir / "data")
    for start, count in ((26, 14), (0, 29), (71, 24)):
        assert unregistered(SubsetSource(source, start=start, max_frames=count)) is None


@pytest.mark.parametrize(
    ("name", "folder", "told"),
    [
        ("7scenes/redkitchen/seq-01", "", False),
        ("tum/freiburg1_rpy", "", False),
        ("folder/hololens_lounge", "folders", False),
        ("folder/castle_map", "folders", False),
        ("folder/realsense_lab", "folders", True),
    ],
)
def test_real_recordings(shared_dir, name, folder, told):
    source = open_sequence(name, shared_dir / "data" / folder)
    assert (unregistered(source) is not None) == told


def test_a_plane_says_nothing():
    assert unregistered(PlaneSource(10)) is None
