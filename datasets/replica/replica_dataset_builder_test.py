"""Builds and reads back a dummy replica, made by our own writers."""

import builder_test_case


class ReplicaTest(builder_test_case.FrameBuilderTest):
    """See `FrameBuilderTest`."""

    FOLDER = "replica"
    KIND = "replica"
