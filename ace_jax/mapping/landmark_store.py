"""The growing store of landmarks while mapping, and the selection of those that a map keeps."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from absl import logging

from ace_jax.errors import UserError
from ace_jax.features.base import Features
from ace_jax.geometry.camera import camera_of, camera_rows
from ace_jax.localization.landmarks import Landmarks, MatchGates
from ace_jax.mapping.images import MappingImage
from ace_jax.mapping.landmark_refinement import (
    Tracks,
    empty,
    grow,
    nothing_found,
    refine,
    search,
)
from ace_jax.mapping.landmark_selection import admitted, claims, how_many
from ace_jax.mapping.points import Depths, world_points
from ace_jax.programs import program
from ace_jax.progress import Progress

GROW_RADIUS = 6.0  # pixels at 640 columns, tuned on redkitchen; measured depth is off by that
ENOUGH_VIEWS = 3  # images; a landmark that so many show is precise and is found again
_CHUNK = 16  # images whose features are in memory while landmarks are looked for
_FIRST_ROOM = 1 << 15  # landmarks; doubled when it is full, so that few sizes are compiled


@dataclasses.dataclass(frozen=True)
class Selection:
    """The landmarks that a map keeps.

    Attributes:
        tracks: the landmarks, the head's first.
        coarse: so many are the head's.
        left_out: so many that an image has a claim to are not kept for want of room.
        shown: (I, N) the kept one that each feature of each image shows, -1 for none.
        known: (K,) where each landmark of the earlier map is now, -1 if it is not kept.
    """

    tracks: Tracks
    coarse: int
    left_out: int
    shown: np.ndarray
    known: np.ndarray

    @property
    def head(self) -> Landmarks:
        """The landmarks of the head."""
        return jax.tree.map(lambda x: x[: self.coarse], self.tracks.landmarks)


class LandmarkStore:
    """Landmarks with room for more, and the compiled steps on them.

    Args:
        dim: descriptor length D.
        options: the configuration's `landmarks`.
        known: landmarks of an earlier map, which stay, or None.
        known_coarse: so many of them, the first, are its head's.
    """

    def __init__(self, dim: int, options: Any, known: Tracks | None, known_coarse: int):
        self._options, self._known_coarse = options, known_coarse
        self._known = 0 if known is None else len(known.landmarks.points)
        self._limit = max(options.capacity, 1 << (2 * self._known).bit_length())
        self._tracks = empty(min(_FIRST_ROOM, self._limit), dim)
        self._count = self._left_out = 0
        self._seen: list[np.ndarray] = []  # by image: the row that each feature shows, -1 for none
        if known is not None:
            while self._room < self._known:
                self._enlarge()
            rows = slice(0, self._known)
            self._tracks = jax.tree.map(
                lambda room, old: room.at[rows].set(old), self._tracks, known
            )
            # Growing adds to descriptor sums: each view that was counted weighs one.
            landmarks = self._tracks.landmarks
            sums = landmarks.descriptors * landmarks.views[:, None, None]
            self._tracks = self._tracks.replace(landmarks=landmarks.replace(descriptors=sums))
            self._count = self._known

    @property
    def _room(self) -> int:
        return self._tracks.chances.shape[0]

    def _enlarge(self) -> None:
        more = min(self._room, self._limit - self._room)
        self._tracks = jax.tree.map(
            lambda x: jnp.concatenate([x, jnp.zeros_like(x[:more])]), self._tracks
        )

    def grow(self, pairs: Sequence[tuple[MappingImage, Depths]], progress: Progress) -> None:
        """Adds images, one by one.

        Raises:
            UserError: there is less room than one image needs.
        """
        for done, (image, depth) in enumerate(pairs):
            progress("landmarks", done, len(pairs))
            usable = depth.valid & image.mask
            if self._count + usable.sum() > self._room:
                if self._room < self._limit:
                    self._enlarge()
                elif not self._seen:
                    raise UserError(
                        f"config.landmarks.capacity is {self._limit}, but the first image has "
                        f"{usable.sum()} features: give room for several images"
                    )
                else:
                    self._make_room()
            points = world_points(image, np.where(depth.valid, depth.depth, 1.0))
            self._tracks, count, shown = _grow(
                self._tracks,
                self._count,
                image.features,
                points,
                usable,
                camera_rows([image.camera])[0].astype(np.float32),
                image.camera_from_world.astype(np.float32),
                MatchGates(GROW_RADIUS * image.camera.pixel_scale, self._options.min_similarity),
            )
            self._count = int(count)
            self._seen.append(self._rows(shown))
        progress("landmarks", len(pairs), len(pairs))

    def _rows(self, shown: jax.Array) -> np.ndarray:
        shown = np.asarray(shown)
        return np.where(shown < self._room, shown, -1)

    def _make_room(self) -> None:
        """Half of the room is freed: every image keeps as many of its best as the others do."""
        views = np.asarray(self._tracks.landmarks.views)
        claim = claims(np.stack(self._seen), views)
        claim[: self._known] = -1
        kept = np.zeros(self._room, bool)
        kept[np.argsort(claim, kind="stable")[: max(self._room // 2, self._known)]] = True
        self._left_out += int((views[~kept] >= max(self._options.min_views, 2)).sum())
        logging.warning(
            "%d landmarks fill the room of config.landmarks.capacity: those seen least are left "
            "out, as many for every image",
            self._count,
        )
        self._keep(kept)

    def drop_lone(self) -> None:
        """Removes what one image alone has seen, unless that image will need it.

        It does where one view is enough (`min_views`) and it has not enough others, or there is
        room in any case.
        """
        views = np.asarray(self._tracks.landmarks.views)
        kept = views > 1
        kept[: self._known] = True
        if self._options.min_views < 2:
            kept = self._admitted(claims(np.stack(self._seen), views), kept)
        self._keep(kept)

    def _admitted(self, claim: np.ndarray, sure: np.ndarray) -> np.ndarray:
        options = self._options
        room = options.coarse + options.detail
        return admitted(claim, sure, options.coarse_per_image, room)

    def _keep(self, chosen: np.ndarray) -> None:
        """Moves the chosen (M,) among the landmarks in use together, and forgets the others."""
        rows = np.flatnonzero(chosen[: self._count])
        moved = np.full(self._room + 1, -1)
        moved[rows] = np.arange(len(rows))
        self._seen = [moved[seen] for seen in self._seen]
        self._count = len(rows)
        source = np.pad(rows, (0, self._room - len(rows)), constant_values=self._room)
        self._tracks = jax.tree.map(
            lambda x: x.at[source].get(mode="fill", fill_value=0), self._tracks
        )

    def refine(self, images: Sequence[MappingImage], radius: float) -> None:
        """One round over these images; the search radius is in pixels at 640 columns.

        Features of few images at a time are in memory.
        """
        dim = self._tracks.landmarks.descriptors.shape[2]
        found, shown = nothing_found(self._room, dim), []
        padding = -len(images) % _CHUNK
        padded = [*images, *images[:1] * padding]
        cameras = camera_rows([i.camera for i in padded]).astype(np.float32)
        poses = np.stack([i.camera_from_world for i in padded]).astype(np.float32)
        radii = np.array([radius * i.camera.pixel_scale for i in padded], np.float32)
        used = np.arange(len(padded)) < len(images)
        for start in range(0, len(padded), _CHUNK):
            part = slice(start, start + _CHUNK)
            found, rows = _search(
                self._tracks.landmarks,
                found,
                jax.tree.map(lambda *rows: np.stack(rows), *(i.features for i in padded[part])),
                cameras[part],
                poses[part],
                MatchGates(radii[part], self._options.min_similarity),
                used[part],
            )
            shown.append(np.asarray(rows))
        rows = np.concatenate(shown)
        uv = np.stack([i.uv for i in padded])
        self._tracks = _refine(self._tracks, found, rows, uv, cameras, poses, self._known)
        self._seen = list(self._rows(rows[: len(images)]))

    def select(self, rng: np.random.Generator) -> Selection:
        """The landmarks to keep, of those that enough images see.

        The landmarks that most images see come first, for they are found again most often; every
        image has a claim to its first ones (see `claims`). Known ones that the images should show
        and do not are gone.

        Args:
            rng: decides between landmarks that equally many images see, and the order of the rows.
        """
        options = self._options
        tracks = jax.tree.map(np.asarray, self._tracks)
        landmarks, room = tracks.landmarks, self._room
        norm = np.linalg.norm(landmarks.descriptors, axis=2, keepdims=True)
        row = np.arange(room)
        known = row < self._known
        expected = tracks.chances * np.clip(tracks.repeatability, 0.0, 1.0)
        gone = known & (expected > 5) & (tracks.recent < 0.1 * expected)
        good = (row < self._count) & (landmarks.views >= options.min_views) & ~gone
        good &= np.isfinite(landmarks.points).all(axis=1) & (norm[:, 0, 0] > 1e-6)
        seen = np.stack(self._seen)
        # What few images have seen is less precise: it is for images that have not enough others,
        # and for room that is there in any case.
        needed = claims(np.where(np.append(good, False)[seen], seen, -1), landmarks.views)
        needed[~good] = room + 1
        good &= self._admitted(needed, good & (landmarks.views >= ENOUGH_VIEWS))
        # What an earlier map's head holds stays there: the new images' shares begin with it.
        settled = row < self._known_coarse
        priority = landmarks.views + np.where(settled, 1e6, 0.0)
        priority[: self._count] += rng.random(self._count)
        claim = claims(np.where(np.append(good, False)[seen], seen, -1), priority)
        claim[settled] = -1
        order = np.flatnonzero(good)
        order = order[np.lexsort((-priority[order], claim[order]))]
        coarse = how_many(
            claim[order], options.coarse_per_image, options.coarse, options.coarse_capacity
        )
        claim[known] = -1
        rest = order[coarse:]
        rest = rest[np.argsort(claim[rest], kind="stable")]
        detail = how_many(
            claim[rest], options.detail_per_image, options.detail, self._limit - coarse
        )
        without_room = rest[detail:][claim[rest[detail:]] < options.detail_per_image]
        # A query uses the first landmarks in view: they must come from all over it.
        rows = np.concatenate([rng.permutation(part) for part in (order[:coarse], rest[:detail])])
        moved = np.full(room + 1, -1)
        moved[rows] = np.arange(len(rows))
        unit = landmarks.descriptors / np.maximum(norm, 1e-6)
        tracks = tracks.replace(landmarks=landmarks.replace(descriptors=unit))
        return Selection(
            tracks=jax.tree.map(lambda x: x[rows], tracks),
            coarse=coarse,
            left_out=self._left_out + int((landmarks.views[without_room] > 1).sum()),
            shown=moved[seen],
            known=moved[: self._known],
        )


@program(donate_argnums=0)
def _grow(
    tracks: Tracks,
    count: jax.Array,
    features: Features,
    points: jax.Array,
    has_point: jax.Array,
    camera: jax.Array,
    *rest: Any,
) -> tuple[Tracks, jax.Array, jax.Array]:
    features = features.replace(descriptors=features.descriptors.astype(jnp.float32))
    return grow(tracks, count, features, points, has_point, camera_of(camera), *rest)


_search = program(search, donate_argnums=1)
_refine = program(refine, donate_argnums=0)
