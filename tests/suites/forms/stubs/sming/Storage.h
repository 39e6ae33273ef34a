#pragma once
#include <stdint.h>

namespace Storage
{
class Partition
{
public:
    uint32_t address() const;
    uint32_t size() const;
    uint32_t at, bytes;
};

Partition findPartition(const char *name);
} // namespace Storage
