"""LAMP: a second protocol, as small as one can be. Nothing outside this folder knows of it.

It is unlike RCP wherever protocols may differ: it speaks in lines of text; it knows images by their CRC-32;
it tells neither app_id, device id, boot nor slot; it is armed before it restarts; its link goes down with the
device; and a device that went back to its old image says exactly what it said before.

    who?         -> is <version> <crc> steady|trial|armed
    put <size> <crc> <offset> <hex> -> at <offset>       the device owns the offset
    arm <crc>    -> armed
    boot         -> (it restarts)
    keep         -> kept
"""
