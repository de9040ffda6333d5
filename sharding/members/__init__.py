"""The arrays that a build adds to its clips where ``--member`` asks for them: from files beside the video, or made."""
