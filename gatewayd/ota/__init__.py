"""What the bytes are, whether they are genuine, and which part a device takes.

Pure: bytes in, values or errors out.
"""

BytesLike = bytes | bytearray | memoryview
