"""Builds and reads back a dummy indoor6, made by our own writers."""

import builder_test_case


class Indoor6Test(builder_test_case.FrameBuilderTest):
    """See `FrameBuilderTest`."""

    FOLDER = "indoor6"
    KIND = "indoor6"
