from platformio.public import PlatformBase


class StubPlatform(PlatformBase):
    pass
