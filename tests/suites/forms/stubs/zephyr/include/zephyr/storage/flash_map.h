#pragma once
#include <zephyr/device.h>
enum { STUB_ID_slot1_partition = 1, STUB_ID_storage_partition = 2 };
enum { STUB_OFFSET_slot1_partition = 0x40000, STUB_OFFSET_storage_partition = 0x7C000 };
#define FIXED_PARTITION_ID(label) STUB_JOIN(STUB_ID_, label)
#define FIXED_PARTITION_OFFSET(label) STUB_JOIN(STUB_OFFSET_, label)
#define FIXED_PARTITION_DEVICE(label) (&stub_flash)
#define STUB_JOIN(a, b) STUB_JOIN_(a, b)
#define STUB_JOIN_(a, b) a##b
