"""Builds and reads back a dummy seven_scenes, made by our own writers."""

import builder_test_case


class SevenScenesTest(builder_test_case.FrameBuilderTest):
    """See `FrameBuilderTest`."""

    FOLDER = "seven_scenes"
    KIND = "7scenes"
