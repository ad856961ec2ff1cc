"""Builds and reads back a dummy tum_rgbd, made by our own writers."""

import builder_test_case


class TumRgbdTest(builder_test_case.FrameBuilderTest):
    """See `FrameBuilderTest`."""

    FOLDER = "tum_rgbd"
    KIND = "tum"
