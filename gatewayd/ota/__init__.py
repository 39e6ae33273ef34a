"""What the bytes are, whether they are genuine, and which part of them a device gets.

Pure: bytes in, values or errors out.
"""

BytesLike = bytes | bytearray | memoryview
