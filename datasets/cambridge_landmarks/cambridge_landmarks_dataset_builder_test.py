"""Builds and reads back a dummy cambridge_landmarks, made by our own writers."""

import builder_test_case


class CambridgeLandmarksTest(builder_test_case.FrameBuilderTest):
    """See `FrameBuilderTest`."""

    FOLDER = "cambridge_landmarks"
    KIND = "cambridge"
