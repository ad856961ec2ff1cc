"""Builds and reads back a dummy twelve_scenes, made by our own writers."""

import builder_test_case


class TwelveScenesTest(builder_test_case.FrameBuilderTest):
    """See `FrameBuilderTest`."""

    FOLDER = "twelve_scenes"
    KIND = "12scenes"
