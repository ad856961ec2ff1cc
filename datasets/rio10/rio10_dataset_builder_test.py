"""Builds and reads back a dummy rio10, made by our own writers."""

import builder_test_case


class Rio10Test(builder_test_case.FrameBuilderTest):
    """See `FrameBuilderTest`."""

    FOLDER = "rio10"
    KIND = "rio10"
