"""Builds and reads back a dummy scannet, made by our own writers."""

import builder_test_case


class ScannetTest(builder_test_case.FrameBuilderTest):
    """See `FrameBuilderTest`."""

    FOLDER = "scannet"
    KIND = "scannet"
