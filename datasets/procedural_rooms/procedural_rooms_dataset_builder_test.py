"""Builds and reads back a dummy procedural_rooms, made by our own writers."""

import builder_test_case


class ProceduralRoomsTest(builder_test_case.FrameBuilderTest):
    """See `FrameBuilderTest`."""

    FOLDER = "procedural_rooms"
    KIND = "synthetic"
