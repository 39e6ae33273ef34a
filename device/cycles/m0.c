/*
 * m0 IMAGE: runs a program for a Cortex-M0 (ARMv6-M) and counts its cycles, by the instruction timings of ARM's Cortex-M0 technical reference
 * manual (DDI 0432C, table 3-1), with no wait states and the multiplier that takes one cycle. QEMU runs such programs, too, but counts nothing.
 *
 * IMAGE is the memory from address 0, code and constants; RAM lies at 0x20000000. It begins with the stack's end and the first instruction's
 * address. `bkpt n` talks to this program: 0 ends it with the status in r0; 1 prints the text in r0, then the cycles since the last one
 * divided by the number in r1, and their limit in r2; 2 only begins to count. Beyond a limit the status is 1.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { ROM_SIZE = 1 << 20, RAM_SIZE = 1 << 20, RAM_AT = 0x20000000, SP = 13, LR = 14, PC = 15 };

static uint8_t rom[ROM_SIZE], ram[RAM_SIZE];
static uint32_t r[16];
static uint32_t next;       /* the next instruction; r[PC] is 4 beyond the one that runs */
static uint32_t n, z, c, v; /* the flags */
static uint64_t cycles, counted_from;
static int is_over; /* one of the limits */

static void stop(const char *why, uint32_t what)
{
    fprintf(stderr, "m0: %s: 0x%08x, at 0x%08x\n", why, what, r[PC] - 4);
    exit(2);
}

static uint8_t *cell(uint32_t address, uint32_t size)
{
    if (address % size != 0)
        stop("unaligned access", address); /* a Cortex-M0 cannot: HardFault */
    if (address < ROM_SIZE - 4)
        return rom + address;
    if (address >= RAM_AT && address < RAM_AT + RAM_SIZE - 4)
        return ram + (address - RAM_AT);
    stop("access to nowhere", address);
    return NULL;
}

static uint32_t load(uint32_t address, uint32_t size)
{
    const uint8_t *p = cell(address, size);
    uint32_t value = 0;
    for (uint32_t i = 0; i < size; i++)
        value |= (uint32_t)p[i] << 8 * i;
    return value;
}

static void store(uint32_t address, uint32_t value, uint32_t size)
{
    uint8_t *p = cell(address, size);
    if (address < RAM_AT)
        stop("write to read-only memory", address);
    for (uint32_t i = 0; i < size; i++)
        p[i] = (uint8_t)(value >> 8 * i);
}

static void set_nz(uint32_t value)
{
    n = value >> 31;
    z = value == 0;
}

static uint32_t add(uint32_t a, uint32_t b, uint32_t carry)
{
    const uint64_t sum = (uint64_t)a + b + carry;
    const uint32_t value = (uint32_t)sum;
    c = (uint32_t)(sum >> 32);
    v = (~(a ^ b) & (a ^ value)) >> 31;
    set_nz(value);
    return value;
}

/* A shift by a register or a number; of 0 it leaves value and carry. */
static uint32_t shift(uint32_t kind, uint32_t value, uint32_t by)
{
    for (; by > 0; by--) {
        if (kind == 0) {
            c = value >> 31;
            value <<= 1;
        } else {
            c = value & 1;
            value = kind == 1 ? value >> 1 : kind == 2 ? value >> 1 | (value & 0x80000000u) : value >> 1 | c << 31;
        }
    }
    set_nz(value);
    return value;
}

static void branch(uint32_t to)
{
    if ((to & 1) == 0)
        stop("branch out of Thumb", to);
    next = to & ~1u;
}

static void data_processing(uint32_t op, uint32_t d, uint32_t m)
{
    const uint32_t a = r[d], b = r[m];
    switch (op) {
    case 0: set_nz(r[d] = a & b); break;
    case 1: set_nz(r[d] = a ^ b); break;
    case 2: r[d] = shift(0, a, (b & 255) > 33 ? 33 : b & 255); break;
    case 3: r[d] = shift(1, a, (b & 255) > 33 ? 33 : b & 255); break;
    case 4: r[d] = shift(2, a, (b & 255) > 33 ? 33 : b & 255); break;
    case 5: r[d] = add(a, b, c); break;
    case 6: r[d] = add(a, ~b, c); break;
    case 7: r[d] = shift(3, a, (b & 255) == 0 ? 0 : ((b & 255) - 1) % 32 + 1); break;
    case 8: set_nz(a & b); break;
    case 9: r[d] = add(0, ~b, 1); break;
    case 10: add(a, ~b, 1); break;
    case 11: add(a, b, 0); break;
    case 12: set_nz(r[d] = a | b); break;
    case 13: set_nz(r[d] = a * b); break;
    case 14: set_nz(r[d] = a & ~b); break;
    default: set_nz(r[d] = ~b); break;
    }
}

static uint32_t holds(uint32_t condition)
{
    const uint32_t is[8] = {z, c, n, v, c && !z, n == v, !z && n == v, 1};
    return is[condition >> 1] != (condition & 1);
}

static void load_store(uint32_t kind, uint32_t d, uint32_t address)
{
    cycles++;
    switch (kind) {
    case 0: store(address, r[d], 4); break;
    case 1: store(address, r[d] & 0xFFFF, 2); break;
    case 2: store(address, r[d] & 0xFF, 1); break;
    case 3: r[d] = (uint32_t)(int8_t)load(address, 1); break;
    case 4: r[d] = load(address, 4); break;
    case 5: r[d] = load(address, 2); break;
    case 6: r[d] = load(address, 1); break;
    default: r[d] = (uint32_t)(int16_t)load(address, 2); break;
    }
}

static uint32_t move_many(uint32_t list, uint32_t address, uint32_t is_load)
{
    for (uint32_t i = 0; i < 8; i++) {
        if ((list >> i & 1) == 0)
            continue;
        if (is_load)
            r[i] = load(address, 4);
        else
            store(address, r[i], 4);
        address += 4;
        cycles++;
    }
    return address;
}

static uint32_t count(uint32_t list)
{
    return list == 0 ? 0 : (list & 1) + count(list >> 1);
}

static void talk(uint32_t what)
{
    if (what == 0)
        exit(is_over ? 1 : (int)r[0]);
    if (what == 1) {
        const uint64_t found = (cycles - counted_from) / (r[1] == 0 ? 1 : r[1]);
        printf("%-62s %6llu of %6u cycles\n", (const char *)cell(r[0], 1), (unsigned long long)found, r[2]);
        is_over |= found > r[2];
    }
    counted_from = cycles;
}

static void miscellaneous(uint32_t i)
{
    const uint32_t d = i & 7, m = i >> 3 & 7, list = i & 255;
    if ((i & 0xFF00) == 0xB000) { /* ADD, SUB SP */
        r[SP] += (i & 0x80) == 0 ? (i & 0x7F) * 4 : 0 - (i & 0x7F) * 4;
    } else if ((i & 0xFE00) == 0xB400) { /* PUSH */
        const uint32_t lr = i >> 8 & 1;
        r[SP] -= 4 * (count(list) + lr);
        if (lr) {
            store(r[SP] + 4 * count(list), r[LR], 4);
            cycles++;
        }
        move_many(list, r[SP], 0);
    } else if ((i & 0xFE00) == 0xBC00) { /* POP */
        r[SP] = move_many(list, r[SP], 1);
        if (i >> 8 & 1) {
            cycles += 3;
            branch(load(r[SP], 4));
            r[SP] += 4;
        }
    } else if ((i & 0xFF00) == 0xB200) { /* SXTH, SXTB, UXTH, UXTB */
        const uint32_t kind = i >> 6 & 3, value = r[m];
        r[d] = kind == 0 ? (uint32_t)(int16_t)value : kind == 1 ? (uint32_t)(int8_t)value : kind == 2 ? value & 0xFFFF : value & 0xFF;
    } else if ((i & 0xFF00) == 0xBA00) { /* REV, REV16, REVSH */
        const uint32_t x = r[m], halves = (x & 0x00FF00FF) << 8 | (x >> 8 & 0x00FF00FF);
        r[d] = (i >> 6 & 3) == 0 ? halves << 16 | halves >> 16 : (i >> 6 & 3) == 1 ? halves : (uint32_t)(int16_t)halves;
    } else if ((i & 0xFF00) == 0xBE00) { /* BKPT */
        talk(i & 255);
    } else if ((i & 0xFF0F) != 0xBF00) { /* NOP and other hints */
        stop("unknown instruction", i);
    }
}

static void special_add(uint32_t i) /* ADD, CMP, MOV with high registers; BX, BLX */
{
    const uint32_t d = (i >> 4 & 8) | (i & 7), m = i >> 3 & 15, kind = i >> 8 & 3;
    if (kind == 3) {
        const uint32_t to = r[m];
        cycles += 2;
        if (i & 0x80)
            r[LR] = (r[PC] - 2) | 1;
        branch(to);
    } else if (kind == 1) {
        add(r[d], ~r[m], 1);
    } else {
        const uint32_t value = kind == 0 ? r[d] + r[m] : r[m];
        if (d == PC) {
            cycles += 2;
            branch(value | 1);
        } else {
            r[d] = value;
        }
    }
}

static void immediate(uint32_t i) /* MOV, CMP, ADD, SUB with eight bits */
{
    const uint32_t d = i >> 8 & 7, value = i & 255;
    switch (i >> 11 & 3) {
    case 0: set_nz(r[d] = value); break;
    case 1: add(r[d], ~value, 1); break;
    case 2: r[d] = add(r[d], value, 0); break;
    default: r[d] = add(r[d], ~value, 1); break;
    }
}

static void shift_or_add(uint32_t i)
{
    const uint32_t d = i & 7, m = i >> 3 & 7, kind = i >> 11 & 3, five = i >> 6 & 31;
    if (kind < 3) {
        r[d] = shift(kind, r[m], kind > 0 && five == 0 ? 32 : five);
    } else {
        const uint32_t value = (i & 0x400) != 0 ? i >> 6 & 7 : r[i >> 6 & 7];
        r[d] = (i & 0x200) != 0 ? add(r[m], ~value, 1) : add(r[m], value, 0);
    }
}

static void branch_with_link(uint32_t i)
{
    const uint32_t low = load(r[PC] - 2, 2), s = i >> 10 & 1, j1 = low >> 13 & 1, j2 = low >> 11 & 1;
    uint32_t offset = (s ? 0xFF000000u : 0) | (~(j1 ^ s) & 1) << 23 | (~(j2 ^ s) & 1) << 22 | (i & 0x3FF) << 12 | (low & 0x7FF) << 1;
    if ((i & 0xF800) != 0xF000 || (low & 0xD000) != 0xD000) {
        if ((i & 0xFFF0) == 0xF3B0) { /* DSB, DMB, ISB */
            cycles += 3;
            next += 2;
            return;
        }
        stop("unknown instruction", i << 16 | low);
    }
    cycles += 3;
    r[LR] = r[PC] | 1;
    branch((r[PC] + offset) | 1);
}

static void step(void)
{
    const uint32_t i = load(next, 2), d = i & 7, m = i >> 3 & 7, five = i >> 6 & 31, wide = i >> 8 & 7;
    cycles++;
    r[PC] = next + 4;
    next += 2;
    switch (i >> 11) {
    case 0: case 1: case 2: case 3: shift_or_add(i); break;
    case 4: case 5: case 6: case 7: immediate(i); break;
    case 8:
        if (i & 0x400)
            special_add(i);
        else
            data_processing(i >> 6 & 15, d, m);
        break;
    case 9: load_store(4, wide, (r[PC] & ~3u) + (i & 255) * 4); break;
    case 10: case 11: load_store(i >> 9 & 7, d, r[m] + r[i >> 6 & 7]); break;
    case 12: load_store(0, d, r[m] + 4 * five); break;
    case 13: load_store(4, d, r[m] + 4 * five); break;
    case 14: load_store(2, d, r[m] + five); break;
    case 15: load_store(6, d, r[m] + five); break;
    case 16: load_store(1, d, r[m] + 2 * five); break;
    case 17: load_store(5, d, r[m] + 2 * five); break;
    case 18: load_store(0, wide, r[SP] + 4 * (i & 255)); break;
    case 19: load_store(4, wide, r[SP] + 4 * (i & 255)); break;
    case 20: r[wide] = (r[PC] & ~3u) + 4 * (i & 255); break;
    case 21: r[wide] = r[SP] + 4 * (i & 255); break;
    case 22: case 23: miscellaneous(i); break;
    case 24: r[wide] = move_many(i & 255, r[wide], 0); break;
    case 25: {
        const uint32_t end = move_many(i & 255, r[wide], 1);
        if ((i >> wide & 1) == 0)
            r[wide] = end;
        break;
    }
    case 26: case 27:
        if (wide > 7 || (i >> 8 & 15) >= 14)
            stop("unknown instruction", i);
        if (holds(i >> 8 & 15)) {
            cycles += 2;
            branch((r[PC] + (uint32_t)(int8_t)(i & 255) * 2) | 1);
        }
        break;
    case 28:
        cycles += 2;
        branch((r[PC] + ((i & 0x7FF) << 1 | ((i & 0x400) != 0 ? 0xFFFFF000u : 0))) | 1);
        break;
    default: branch_with_link(i); break;
    }
}

int main(int arguments, char **argument)
{
    FILE *file = arguments == 2 ? fopen(argument[1], "rb") : NULL;
    if (file == NULL || fread(rom, 1, ROM_SIZE, file) == 0) {
        fprintf(stderr, "m0 IMAGE: runs a program for a Cortex-M0 and counts its cycles\n");
        return 2;
    }
    fclose(file);
    r[SP] = load(0, 4);
    branch(load(4, 4));
    for (;;)
        step();
}
