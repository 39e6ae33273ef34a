/*
 * Theory of operation.
 *
 * rcp_rx_byte() only fills the ring. rcp_poll() takes bytes from it until one frame is whole, answers it, and then does one slice of what
 * the state asks for: erase a block, hash a kilobyte, restart when the line has drained. Nothing ever waits.
 *
 * Image data goes to flash through the port's write unit, so there are four offsets, in this order:
 *
 *     durable <= written <= received <= credit <= erased
 *
 * `durable` is what the journal knows, `written` is in flash and was read back (written_crc), `received` includes what lies in the unit. The
 * gateway was promised that it may send up to `credit`, and only erased flash is promised. After a restart everything begins again at
 * `durable`, so the blocks behind it are erased again: what a torn write left there is never programmed a second time.
 *
 * The journal is two areas. The one in use begins with a full copy of `memory` and goes on with progress marks and further copies; when
 * it is full the other one is erased and begins with a copy under the next generation. A cut leaves one of the two whole. Each record's
 * CRC-32 is seeded with its area's generation, so remnants are not records; cells that are not blank are skipped and never written.
 * Records pass through the write unit, too: they are only written while no part of an image is in it.
 */
#include "rcp.h"

#include <string.h>

enum frame_type {
    HELLO = 0x01, INFO, OFFER, ACCEPT, HAVE_IT, REFUSE, FINISH, FINISHED, ACTIVATE, ACTIVATED, CONFIRM, CONFIRMED, ABORT, ABORTED, BUSY,
    NOT_NOW, SET_BAUD, BAUD_OK, ERROR, DATA = 0x40, ACK, NAK
};

enum code {
    NO_SESSION = 0x0101, BAD_STATE, OTHER_BOOT, STILL_ON_TRIAL, RESTARTING, NOT_STAGED,
    DIGEST_MISMATCH = 0x0201, FLASH_READ,
    MALFORMED = 0x0301, UNKNOWN_TYPE, UNKNOWN_CRITICAL_TAG, UNKNOWN_ENCODING, TOO_LARGE, ALREADY_TRIED, FLASH_FAILED, PROTOCOL_VERSION,
    BAUD, NOT_RUNNING
};

enum state { IDLE, PREPARE, RECV, FULL, HASH, STAGED, RESTART };
enum image_state { CONFIRMED_IMAGE, ON_TRIAL, REVERTED };
enum tried_end { UNKNOWN_END, STARTED, KEPT, GIVEN_UP };
enum { HEADER_SIZE = 2, CRC_SIZE = 4, SMALL_FRAME = 40, SLICE = 64, HASH_BYTES = 1024, CELL = 16, SHA_SIZE = 32 };

#define PROTOCOL 1u
#define PROGRESS_STEP 4096u      /* a journal record at most this often */
#define SESSION_IN_USE_S 10u     /* longer than any gap a living gateway makes */
#define ANOTHER_GATEWAY 1u       /* a NOT_NOW reason */
#define BAUD_FIRST_MS 1000u      /* nothing valid was heard at a new speed */
#define BAUD_LATER_MS 3000u
#define BUSY_REPEAT_MS 2000u     /* said again after this; promised is BUSY_SPARE_MS and one erase more */
#define BUSY_SPARE_MS 500u
#define HIGHEST_BAUD 20000000u   /* keeps the tolerance's arithmetic in 32 bits */
#define PROGRESS_MARK 0x52504350u

/* A progress mark and a copy of the memory, as they are in the journal. Both end with their CRC-32. */
typedef struct {
    uint32_t mark; /* never blank, never a generation */
    uint32_t durable, image_crc;
    uint32_t crc;
} progress_t;

typedef struct {
    uint32_t generation;
    rcp_memory_t memory;
    uint32_t crc;
} copy_t;

/* ---- bytes ---- */

static uint32_t crc32(uint32_t crc, const void *data, uint32_t size)
{
    static const uint32_t NIBBLE[16] = {0x00000000, 0x1db71064, 0x3b6e20c8, 0x26d930ac, 0x76dc4190, 0x6b6b51f4, 0x4db26158, 0x5005713c,
                                        0xedb88320, 0xf00f9344, 0xd6d6a3e8, 0xcb61b38c, 0x9b64c2b0, 0x86d3d2d4, 0xa00ae278, 0xbdbdf21c};
    const uint8_t *p = data;
    for (crc = ~crc; size > 0; size--) {
        crc ^= *p++;
        crc = crc >> 4 ^ NIBBLE[crc & 15u];
        crc = crc >> 4 ^ NIBBLE[crc & 15u];
    }
    return ~crc;
}

static uint32_t get(const uint8_t *p, unsigned size)
{
    uint32_t value = 0;
    while (size-- > 0)
        value = value << 8 | p[size];
    return value;
}

static uint8_t *put(uint8_t *p, uint32_t value, unsigned size)
{
    for (; size > 0; size--, value >>= 8)
        *p++ = (uint8_t)value;
    return p;
}

static uint32_t smaller(uint32_t a, uint32_t b)
{
    return a < b ? a : b;
}

static bool same_sha256(const uint8_t *a, const uint8_t *b)
{
    return memcmp(a, b, SHA_SIZE) == 0;
}

static uint32_t now(const rcp_t *r)
{
    return r->port->now_ms(r->port->context);
}

/* ---- sending ---- */

static void put_on_line(const rcp_t *r, const uint8_t *data, uint32_t size)
{
    r->port->send(r->port->context, data, size);
}

/* Sends 00 | COBS(frame and its CRC) | 00; there must be room for the CRC behind the frame. */
static void send_frame(const rcp_t *r, uint8_t *frame, uint32_t size)
{
    static const uint8_t DELIMITER = 0;
    uint32_t at = 0;
    put(frame + size, crc32(0, frame, size), CRC_SIZE);
    size += CRC_SIZE;
    put_on_line(r, &DELIMITER, 1);
    for (;;) {
        uint32_t run = 0;
        uint8_t code;
        while (run < 254 && at + run < size && frame[at + run] != 0)
            run++;
        code = (uint8_t)(run + 1);
        put_on_line(r, &code, 1);
        put_on_line(r, frame + at, run);
        at += run;
        if (at == size)
            break;
        at += run < 254; /* the zero is in the code */
    }
    put_on_line(r, &DELIMITER, 1);
}

static void send(const rcp_t *r, uint8_t type, uint8_t session, const void *body, uint32_t size)
{
    uint8_t frame[SMALL_FRAME];
    frame[0] = type;
    frame[1] = session;
    memcpy(frame + HEADER_SIZE, body, size);
    send_frame(r, frame, HEADER_SIZE + size);
}

/* An answer to what was asked: one number of `size` bytes. */
static void answer(const rcp_t *r, uint8_t type, uint32_t number, unsigned size)
{
    uint8_t body[4];
    put(body, number, size);
    send(r, type, r->asked, body, size);
}

static void send_offsets(const rcp_t *r, uint8_t type, uint32_t second)
{
    uint8_t body[12];
    put(put(put(body, r->received, 4), second, 4), r->credit, 4);
    send(r, type, r->session, body, sizeof body);
}

static void acknowledge(const rcp_t *r)
{
    send_offsets(r, ACK, r->memory.durable);
}

static void say_busy(rcp_t *r)
{
    uint8_t body[4];
    put(body, BUSY_REPEAT_MS + BUSY_SPARE_MS + r->port->erase_ms, 4);
    r->busy_ms = now(r);
    send(r, BUSY, r->session, body, sizeof body);
}

/* Says once per pass from where to go on. */
static void gap(rcp_t *r)
{
    if (r->state != RECV || r->pass_nak)
        return;
    r->pass_nak = true;
    send_offsets(r, NAK, r->memory.durable);
}

static void new_pass(rcp_t *r)
{
    r->pass_nak = false;
    r->pass_next = 0;
}

/* ---- flash ---- */

static bool flash_read(const rcp_t *r, uint32_t address, void *to, uint32_t size)
{
    return r->port->flash_read(r->port->context, address, to, size);
}

static bool flash_erase(const rcp_t *r, uint32_t address)
{
    return r->port->flash_erase(r->port->context, address);
}

static bool blank(const rcp_t *r, uint32_t address, uint32_t size)
{
    uint8_t cell[CELL];
    for (uint32_t n; size > 0; address += n, size -= n) {
        n = smaller(size, CELL);
        if (!flash_read(r, address, cell, n))
            return false;
        for (uint32_t i = 0; i < n; i++)
            if (cell[i] != 0xFF)
                return false;
    }
    return true;
}

/* Writes the unit, filled up with FF, to a place that is blank. */
static bool write_unit(rcp_t *r, uint32_t address)
{
    const rcp_port_t *p = r->port;
    memset(p->unit + r->unit_fill, 0xFF, (size_t)(p->write_unit - r->unit_fill));
    r->unit_fill = 0;
    return blank(r, address, p->write_unit) && p->flash_write(p->context, address, p->unit, p->write_unit);
}

/* ---- the journal ---- */

static uint32_t padded(const rcp_t *r, uint32_t size)
{
    uint32_t cell = r->port->write_unit > CELL ? r->port->write_unit : CELL;
    return (size + cell - 1) & ~(cell - 1);
}

static uint32_t area(const rcp_t *r)
{
    return r->port->journal + r->journal_at * r->port->journal_area;
}

/* Appends a record whose last word is its CRC. */
static bool append(rcp_t *r, void *record, uint32_t size)
{
    uint8_t *from = record;
    uint32_t address = area(r) + r->journal_end;
    uint32_t crc = crc32(r->generation, record, size - CRC_SIZE);
    if (padded(r, size) > r->port->journal_area - r->journal_end)
        return false;
    memcpy(from + size - CRC_SIZE, &crc, CRC_SIZE);
    r->journal_end += padded(r, size); /* whatever comes of it, never again there */
    for (uint32_t n; size > 0; address += r->port->write_unit, from += n, size -= n) {
        n = smaller(size, r->port->write_unit);
        memcpy(r->port->unit, from, n);
        r->unit_fill = (uint16_t)n;
        if (!write_unit(r, address))
            return false;
    }
    return true;
}

static bool append_copy(rcp_t *r)
{
    copy_t copy;
    copy.generation = r->generation;
    copy.memory = r->memory;
    return append(r, &copy, sizeof copy);
}

/* Until its copy is whole, the area that was in use stays in force. */
static bool begin_area(rcp_t *r)
{
    bool done = true;
    r->journal_at ^= 1u;
    r->journal_end = 0;
    r->generation++;
    for (uint32_t at = 0; done && at < r->port->journal_area; at += r->port->erase_block)
        done = flash_erase(r, area(r) + at);
    if (done && append_copy(r))
        return true;
    r->journal_at ^= 1u;
    r->journal_end = r->port->journal_area;
    r->generation--;
    return false;
}

static bool save(rcp_t *r)
{
    return append_copy(r) || begin_area(r);
}

static bool save_progress(rcp_t *r)
{
    progress_t mark = {PROGRESS_MARK, r->written, r->written_crc, 0};
    r->memory.durable = r->written;
    r->memory.crc = r->written_crc;
    return append(r, &mark, sizeof mark) || begin_area(r);
}

static bool read_record(const rcp_t *r, uint32_t generation, uint32_t at, void *record, uint32_t size)
{
    uint32_t crc;
    if (size > r->port->journal_area - at || !flash_read(r, area(r) + at, record, size))
        return false;
    memcpy(&crc, (uint8_t *)record + size - CRC_SIZE, CRC_SIZE);
    return crc == crc32(generation, record, size - CRC_SIZE);
}

/* Takes up the record that begins at `at`. Returns what it occupies, 0 when there is none. */
static uint32_t take_record(rcp_t *r, uint32_t at)
{
    progress_t mark;
    copy_t copy;
    if (read_record(r, r->generation, at, &mark, sizeof mark) && mark.mark == PROGRESS_MARK) {
        r->memory.durable = mark.durable;
        r->memory.crc = mark.image_crc;
        return padded(r, sizeof mark);
    }
    if (read_record(r, r->generation, at, &copy, sizeof copy) && copy.generation == r->generation) {
        r->memory = copy.memory;
        return padded(r, sizeof copy);
    }
    return 0;
}

static void replay(rcp_t *r)
{
    const uint32_t cell = padded(r, 1);
    for (uint32_t at = 0; at < r->port->journal_area;) {
        uint32_t used = take_record(r, at);
        if (used == 0 && blank(r, area(r) + at, cell)) {
            at += cell;
            continue;
        }
        at += used > 0 ? used : cell;
        r->journal_end = at;
    }
}

static void read_journal(rcp_t *r)
{
    uint32_t newest = 1; /* so that the first record goes to area 0 */
    r->journal_end = r->port->journal_area;
    for (r->journal_at = 0; r->journal_at < 2; r->journal_at++) {
        copy_t copy;
        if (flash_read(r, area(r), &copy, sizeof copy.generation) && read_record(r, copy.generation, 0, &copy, sizeof copy) &&
            copy.generation > r->generation) {
            r->generation = copy.generation;
            newest = r->journal_at;
        }
    }
    r->journal_at = newest;
    if (r->generation > 0)
        replay(r);
}

/* ---- the image in the slot ---- */

static void begin_at_durable(rcp_t *r)
{
    r->written = r->erased = r->memory.durable;
    r->written_crc = r->memory.crc;
}

static void end_session(rcp_t *r)
{
    r->state = IDLE;
    r->session = 0;
}

/* There is nothing of any image in the slot any more. */
static bool forget(rcp_t *r)
{
    r->memory.size = r->memory.durable = r->memory.crc = 0;
    begin_at_durable(r);
    return save(r);
}

static uint32_t give_up(rcp_t *r, uint32_t code)
{
    r->asked = r->session;
    end_session(r);
    forget(r);
    return code;
}

/* How far erasing has to be ahead of what was received. */
static bool erase_is_due(const rcp_t *r)
{
    uint32_t left = r->memory.size - r->received;
    return r->erased < r->received + smaller(left, r->port->window + r->port->erase_ahead);
}

static uint32_t erase_block(rcp_t *r)
{
    if (!flash_erase(r, r->port->slot + r->erased))
        return give_up(r, FLASH_FAILED);
    r->erased += r->port->erase_block;
    return 0;
}

/* Credit grows in steps of whole chunks or half windows. */
static bool grow_credit(rcp_t *r)
{
    const uint32_t size = r->memory.size;
    uint32_t edge = r->received + smaller(size - r->received, r->port->window);
    uint32_t step = smaller(r->chunk, r->port->window / 2);
    edge = smaller(edge, r->erased);
    if (edge <= r->credit || (edge != size && edge - r->credit < step))
        return false;
    r->credit = edge;
    return true;
}

/* Writes the unit and reads it back. Returns an error code or 0. */
static uint32_t store_unit(rcp_t *r)
{
    const uint32_t step = r->port->erase_block > PROGRESS_STEP ? r->port->erase_block : PROGRESS_STEP;
    uint32_t address = r->port->slot + r->written;
    uint32_t left = r->unit_fill;
    if (!write_unit(r, address))
        return FLASH_FAILED;
    r->written += left;
    for (uint32_t n; left > 0; address += n, left -= n) {
        uint8_t cell[CELL];
        n = smaller(left, CELL);
        if (!flash_read(r, address, cell, n))
            return FLASH_READ;
        r->written_crc = crc32(r->written_crc, cell, n);
    }
    if ((r->written & (step - 1)) != 0 && r->written != r->memory.size)
        return 0;
    return save_progress(r) ? 0 : FLASH_FAILED;
}

static uint32_t take_bytes(rcp_t *r, const uint8_t *data, uint32_t size)
{
    for (uint32_t n; size > 0; data += n, size -= n) {
        n = smaller(size, (uint32_t)r->port->write_unit - r->unit_fill);
        memcpy(r->port->unit + r->unit_fill, data, n);
        r->unit_fill = (uint16_t)(r->unit_fill + n);
        r->received += n;
        if (r->unit_fill == r->port->write_unit || r->received == r->memory.size) {
            uint32_t code = store_unit(r);
            if (code != 0)
                return code;
        }
    }
    return 0;
}

/* ---- TLV ---- */

typedef struct {
    uint8_t tag, least, most;
} rule_t;

typedef struct {
    const uint8_t *at; /* NULL: absent */
    uint32_t size;
} value_t;

/* Reads a body from the front; what is wrong first decides. The first `required` of the rules have to be met. Returns an error code or 0. */
static uint32_t read_tags(const uint8_t *body, uint32_t size, const rule_t *rules, unsigned count, unsigned required, value_t *values)
{
    uint8_t seen[32] = {0};
    memset(values, 0, count * sizeof *values);
    while (size > 0) {
        unsigned i = 0;
        uint8_t tag = body[0], bit = (uint8_t)(1u << (tag & 7u)), n = body[size > 1];
        if (size < 2 || n > size - 2 || (seen[tag >> 3] & bit) != 0)
            return MALFORMED;
        seen[tag >> 3] |= bit;
        while (i < count && rules[i].tag != tag)
            i++;
        if (i < count) {
            if (n < rules[i].least || n > rules[i].most)
                return MALFORMED;
            values[i].at = body + 2;
            values[i].size = n;
        } else if (tag >= 0x80) {
            return UNKNOWN_CRITICAL_TAG;
        }
        body += 2u + n;
        size -= 2u + n;
    }
    for (unsigned i = 0; i < required; i++)
        if (values[i].at == NULL)
            return MALFORMED;
    return 0;
}

static uint8_t *put_bytes(uint8_t *at, uint8_t tag, const void *value, uint32_t size)
{
    *at++ = tag;
    *at++ = (uint8_t)size;
    memcpy(at, value, size);
    return at + size;
}

static uint8_t *put_number(uint8_t *at, uint8_t tag, uint32_t value, unsigned size)
{
    *at++ = tag;
    *at++ = (uint8_t)size;
    return put(at, value, size);
}

static uint8_t *put_text(uint8_t *at, uint8_t tag, const char *text)
{
    return text == NULL ? at : put_bytes(at, tag, text, (uint32_t)strlen(text));
}

/* ---- identity ---- */

static void send_info(const rcp_t *r, uint32_t nonce)
{
    const rcp_port_t *p = r->port;
    uint8_t *at = p->frame;
    *at++ = INFO;
    *at++ = 0;
    at = put_number(at, 0x01, nonce, 4);
    at = put_number(at, 0x02, PROTOCOL, 1);
    at = put_number(at, 0x03, PROTOCOL, 1);
    at = put_text(at, 0x10, p->app_id);
    at = put_text(at, 0x11, p->hardware_id);
    at = put_text(at, 0x12, p->device_id);
    at = put_text(at, 0x13, p->version);
    at = put_number(at, 0x14, p->boot_id, 4);
    at = put_number(at, 0x15, r->image_state, 1);
    at = put_number(at, 0x16, p->max_frame, 2);
    at = put_number(at, 0x17, p->window, 4);
    at = put_number(at, 0x18, p->ring_size - 1, 4);
    if (p->has_slot_address)
        at = put_number(at, 0x19, p->slot_address, 4);
    at = put_number(at, 0x1A, p->slot_size, 4);
    at = put_number(at, 0x1B, p->erase_block, 4);
    at = put_number(at, 0x1C, p->write_unit, 2);
    at = put_number(at, 0x1D, p->boot_time_s, 2);
    at = put_number(at, 0x1E, p->features, 4);
    if (p->running_sha256 != NULL)
        at = put_bytes(at, 0x1F, p->running_sha256, SHA_SIZE);
    if (r->memory.tried_count > 0) {
        at = put_bytes(at, 0x20, r->memory.tried_sha256, SHA_SIZE);
        at = put_number(at, 0x21, r->memory.tried_count, 1);
    }
    send_frame(r, p->frame, (uint32_t)(at - p->frame));
}

static uint32_t on_hello(rcp_t *r, const uint8_t *body, uint32_t size)
{
    static const rule_t RULES[] = {{0x01, 4, 4}, {0x02, 1, 1}, {0x03, 1, 1}, {0x04, 1, 64}};
    value_t v[4];
    uint32_t code = read_tags(body, size, RULES, 4, 4, v);
    if (code != 0)
        return code;
    if (*v[1].at > *v[2].at)
        return MALFORMED;
    r->hello_gateway = crc32(0, v[3].at, v[3].size);
    send_info(r, get(v[0].at, 4));
    return 0;
}

static bool runs(const rcp_t *r, const uint8_t *sha256)
{
    return r->port->running_sha256 != NULL && same_sha256(sha256, r->port->running_sha256);
}

/* ---- OFFER ---- */

enum offer_tag { IMAGE_SHA256, IMAGE_SIZE, IMAGE_VERSION, ENCODING, FROM_ZERO, SECOND_TRY, OFFER_TAGS };
#define RUNS_IT 1u /* among the codes: HAVE_IT is the answer */

static bool was_tried(const rcp_t *r, const value_t *v)
{
    return r->memory.tried_count > 0 && same_sha256(v[IMAGE_SHA256].at, r->memory.tried_sha256) &&
           !(v[SECOND_TRY].at != NULL && r->memory.tried_count == 1);
}

static uint32_t ask_hook(const rcp_t *r, const value_t *v)
{
    rcp_offer_t offer;
    if (r->port->offer == NULL)
        return 0;
    memcpy(offer.sha256, v[IMAGE_SHA256].at, SHA_SIZE);
    offer.size = get(v[IMAGE_SIZE].at, 4);
    offer.version = (const char *)v[IMAGE_VERSION].at;
    offer.version_size = (uint8_t)v[IMAGE_VERSION].size;
    return r->port->offer(r->port->context, &offer);
}

/* The order is that of protocol.md, section 4. */
static uint32_t judge_offer(const rcp_t *r, const value_t *v)
{
    const uint32_t size = get(v[IMAGE_SIZE].at, 4);
    if (r->state == RESTART)
        return RESTARTING;
    if (*v[ENCODING].at != 0)
        return UNKNOWN_ENCODING;
    if (runs(r, v[IMAGE_SHA256].at))
        return RUNS_IT;
    if (r->image_state == ON_TRIAL)
        return STILL_ON_TRIAL;
    if (r->session != 0 && r->hello_gateway != r->session_gateway && now(r) - r->session_ms < SESSION_IN_USE_S * 1000)
        return RCP_NOT_NOW(SESSION_IN_USE_S, ANOTHER_GATEWAY);
    if (size == 0 || size > r->port->slot_size)
        return TOO_LARGE;
    if (was_tried(r, v))
        return ALREADY_TRIED;
    return ask_hook(r, v);
}

/* Goes on with the image, or begins it; the journal knows of a new one before flash is touched. */
static uint32_t take_up(rcp_t *r, const value_t *v)
{
    rcp_memory_t *m = &r->memory;
    const uint32_t size = get(v[IMAGE_SIZE].at, 4);
    const bool same = size == m->size && same_sha256(v[IMAGE_SHA256].at, m->sha256);
    const bool repeated = same && r->session == r->asked;
    if (repeated && r->state == PREPARE) {
        say_busy(r);
        return 0;
    }
    if (!repeated) {
        r->session = r->asked;
        r->session_gateway = r->hello_gateway;
        r->session_ms = now(r);
        r->credit = 0;
        r->chunk = 0;
    }
    r->unit_fill = 0;
    if (!same || (v[FROM_ZERO].at != NULL && !repeated)) {
        memcpy(m->sha256, v[IMAGE_SHA256].at, SHA_SIZE);
        m->size = size;
        m->durable = m->crc = 0;
        begin_at_durable(r);
        if (!save(r))
            return give_up(r, FLASH_FAILED);
    }
    r->received = r->written;
    r->state = PREPARE;
    if (erase_is_due(r))
        say_busy(r);
    return 0;
}

static void accept(rcp_t *r)
{
    r->state = r->received == r->memory.size ? FULL : RECV;
    new_pass(r);
    grow_credit(r);
    send_offsets(r, ACCEPT, r->written_crc);
}

static uint32_t on_offer(rcp_t *r, const uint8_t *body, uint32_t size)
{
    static const rule_t RULES[] = {{0x30, 32, 32}, {0x31, 4, 4}, {0x32, 5, 62}, {0x33, 1, 1}, {0x34, 0, 0}, {0x35, 0, 0}};
    value_t v[OFFER_TAGS];
    uint32_t code = read_tags(body, size, RULES, OFFER_TAGS, 4, v);
    if (code == 0)
        code = judge_offer(r, v);
    if (code == 0)
        code = take_up(r, v);
    if (code == RUNS_IT) {
        send(r, HAVE_IT, r->asked, v[IMAGE_SHA256].at, SHA_SIZE);
    } else if (code >= RCP_NOT_NOW(0, 0)) {
        uint8_t answer_body[5];
        put(put(answer_body, code & 0xFFFFu, 4), code >> 16 & 0xFFu, 1);
        send(r, NOT_NOW, r->asked, answer_body, sizeof answer_body);
    } else if (code == RESTARTING) {
        return code;
    } else if (code != 0) {
        answer(r, REFUSE, code, 2);
    }
    return 0;
}

/* ---- DATA ---- */

static uint32_t on_data(rcp_t *r, const uint8_t *body, uint32_t size)
{
    const uint32_t offset = get(body, 4);
    uint32_t code;
    size -= 4;
    if (r->state != RECV || size == 0) {
        acknowledge(r);
        return 0;
    }
    if (offset > r->credit || size > r->credit - offset)
        return MALFORMED;
    if (offset < r->pass_next)
        new_pass(r);
    r->pass_next = offset + 1;
    if (offset > r->received) {
        gap(r);
        return 0;
    }
    if (size > r->received - offset) {
        uint32_t known = r->received - offset;
        code = take_bytes(r, body + 4 + known, size - known);
        if (code != 0)
            return give_up(r, code);
        r->chunk = size;
        r->pass_nak = false;
        grow_credit(r);
        if (r->received == r->memory.size)
            r->state = FULL;
    }
    acknowledge(r);
    return 0;
}

/* ---- FINISH ---- */

static uint32_t on_finish(rcp_t *r, const uint8_t *body, uint32_t size)
{
    (void)body, (void)size;
    if (r->state == STAGED) {
        send(r, FINISHED, r->session, r->memory.sha256, SHA_SIZE);
    } else if (r->state == RECV) {
        new_pass(r);
        gap(r);
    } else {
        r->state = HASH;
        r->hashed = 0;
        r->port->sha256_begin(r->port->context);
        say_busy(r);
    }
    return 0;
}

static uint32_t hash_slice(rcp_t *r)
{
    const rcp_port_t *p = r->port;
    uint8_t bytes[SLICE];
    for (unsigned i = 0; i < HASH_BYTES / SLICE && r->hashed < r->memory.size; i++) {
        uint32_t n = smaller(SLICE, r->memory.size - r->hashed);
        if (!flash_read(r, p->slot + r->hashed, bytes, n))
            return give_up(r, FLASH_READ);
        p->sha256_add(p->context, bytes, n);
        r->hashed += n;
    }
    if (r->hashed < r->memory.size)
        return 0;
    p->sha256_end(p->context, bytes);
    if (!same_sha256(bytes, r->memory.sha256))
        return give_up(r, DIGEST_MISMATCH);
    r->state = STAGED;
    return on_finish(r, NULL, 0);
}

/* ---- ACTIVATE and CONFIRM ---- */

static uint32_t on_activate(rcp_t *r, const uint8_t *body, uint32_t size)
{
    rcp_memory_t *m = &r->memory;
    (void)size;
    if (r->state == STAGED) {
        if (!same_sha256(body, m->sha256))
            return NOT_STAGED;
        if (get(body + 32, 4) != r->port->boot_id)
            return OTHER_BOOT;
        if (!same_sha256(m->tried_sha256, m->sha256))
            m->tried_count = 0;
        memcpy(m->tried_sha256, m->sha256, SHA_SIZE);
        m->tried_count = (uint8_t)smaller(m->tried_count + 1u, 255);
        m->tried_end = UNKNOWN_END;
        m->trial_s = (uint16_t)get(body + 36, 2);
        if (!save(r) || !r->port->activate(r->port->context, m->sha256, m->size, m->trial_s))
            return FLASH_FAILED;
        r->image_state = CONFIRMED_IMAGE;
        r->state = RESTART;
    }
    if (r->state != RESTART)
        return NOT_STAGED;
    send(r, ACTIVATED, r->session, NULL, 0);
    return 0;
}

/* What became of the image tried last, as far as it shows at this boot. */
static void judge_trial(rcp_t *r)
{
    const rcp_port_t *p = r->port;
    rcp_memory_t *m = &r->memory;
    uint8_t end = m->tried_end;
    if (p->on_trial)
        end = STARTED;
    else if (runs(r, m->tried_sha256))
        end = KEPT;
    else if ((p->reverted_sha256 != NULL && same_sha256(p->reverted_sha256, m->tried_sha256)) ||
             (end == STARTED && p->running_sha256 != NULL))
        end = GIVEN_UP;
    if (m->tried_count > 0 && end != m->tried_end) {
        m->tried_end = end;
        save(r);
    }
    r->image_state = p->on_trial ? ON_TRIAL : m->tried_end == GIVEN_UP ? REVERTED : CONFIRMED_IMAGE;
}

static uint32_t on_confirm(rcp_t *r, const uint8_t *body, uint32_t size)
{
    static const rule_t RULES[] = {{0x01, 4, 4}, {0x30, 32, 32}, {0x32, 5, 62}};
    const char *version = r->port->version;
    value_t v[3];
    uint32_t code = read_tags(body, size, RULES, 3, 1, v);
    uint8_t confirmed[6];
    if (code != 0)
        return code;
    if ((v[1].at == NULL) == (v[2].at == NULL))
        return MALFORMED;
    if (v[1].at != NULL ? !runs(r, v[1].at)
                        : version == NULL || strlen(version) != v[2].size || memcmp(version, v[2].at, v[2].size) != 0)
        return NOT_RUNNING;
    if (r->image_state == ON_TRIAL) {
        r->memory.tried_end = KEPT;
        if (!r->port->confirm(r->port->context) || !save(r))
            return FLASH_FAILED;
        r->image_state = CONFIRMED_IMAGE;
    }
    put_number(confirmed, 0x01, get(v[0].at, 4), 4);
    send(r, CONFIRMED, 0, confirmed, sizeof confirmed);
    return 0;
}

/* ---- ABORT and SET_BAUD ---- */

static uint32_t on_abort(rcp_t *r, const uint8_t *body, uint32_t size)
{
    (void)size;
    if (r->asked != 0 && r->asked != r->session)
        return NO_SESSION;
    if (r->state != RESTART) {
        end_session(r);
        if (*body != 0 && r->memory.size > 0 && !forget(r))
            return FLASH_FAILED;
    }
    send(r, ABORTED, r->asked, NULL, 0);
    return 0;
}

static uint32_t on_set_baud(rcp_t *r, const uint8_t *body, uint32_t size)
{
    const rcp_port_t *p = r->port;
    const uint32_t baud = get(body, 4);
    uint32_t actual = 0;
    uint8_t answer_body[8];
    (void)size;
    if (r->state == RESTART)
        return RESTARTING;
    if (r->state != IDLE)
        return BAD_STATE;
    if ((p->features & RCP_FEATURE_SET_BAUD) != 0 && baud <= HIGHEST_BAUD)
        actual = p->baud_possible(p->context, baud);
    if (actual == 0 || (actual > baud ? actual - baud : baud - actual) > baud * 3 / 200) /* 1.5 % */
        return BAUD;
    put(put(answer_body, baud, 4), actual, 4);
    send(r, BAUD_OK, 0, answer_body, sizeof answer_body);
    r->next_baud = baud;
    return 0;
}

static void switch_baud(rcp_t *r, uint32_t baud)
{
    r->port->set_baud(r->port->context, baud);
    r->baud = baud;
    r->next_baud = 0;
    r->new_speed = true;
    r->heard_ms = now(r);
}

/* ---- frames ---- */

enum scope { NO, NEW, OWN, ANY }; /* session: 0, one that the frame begins, this one, any */

static const struct {
    uint8_t type, scope, least, most; /* sizes of the body; 255: no limit */
    uint32_t (*take)(rcp_t *r, const uint8_t *body, uint32_t size); /* returns an error code or 0 */
} REQUESTS[] = {
    {DATA, OWN, 4, 255, on_data},          {HELLO, NO, 0, 255, on_hello},     {OFFER, NEW, 0, 255, on_offer},
    {FINISH, OWN, 0, 0, on_finish},        {ACTIVATE, OWN, 38, 38, on_activate}, {CONFIRM, NO, 0, 255, on_confirm},
    {ABORT, ANY, 1, 1, on_abort},          {SET_BAUD, NO, 4, 4, on_set_baud},
};
enum { REQUEST_COUNT = sizeof REQUESTS / sizeof *REQUESTS };

static bool only_devices_send(uint8_t type)
{
    return (type > 0 && type <= ERROR) || type == ACK || type == NAK;
}

static void take_frame(rcp_t *r, const uint8_t *frame, uint32_t size)
{
    const uint8_t type = frame[0];
    uint32_t code = MALFORMED;
    unsigned i = 0;
    r->asked = frame[1];
    r->heard_ms = now(r);
    r->new_speed = false;
    while (i < REQUEST_COUNT && REQUESTS[i].type != type)
        i++;
    if (i == REQUEST_COUNT) {
        if (only_devices_send(type))
            return;
        code = UNKNOWN_TYPE;
    } else if (size >= REQUESTS[i].least && (REQUESTS[i].most == 255 || size <= REQUESTS[i].most) &&
               (REQUESTS[i].scope == ANY || (REQUESTS[i].scope == NO) == (r->asked == 0))) {
        const bool own = REQUESTS[i].scope == OWN;
        if (r->asked != 0 && r->asked == r->session)
            r->session_ms = now(r);
        if (own && r->asked != r->session) {
            code = NO_SESSION;
        } else if (own && (r->state == HASH || (r->state == PREPARE && type != ACTIVATE))) {
            say_busy(r);
            return;
        } else if (own && r->state == RESTART && type != ACTIVATE) {
            code = RESTARTING;
        } else {
            code = REQUESTS[i].take(r, frame + HEADER_SIZE, size);
        }
    }
    if (code != 0)
        answer(r, ERROR, code, 2);
}

static void end_frame(rcp_t *r)
{
    uint8_t *frame = r->port->frame;
    uint32_t size = r->frame_size;
    bool whole = r->frame_begun && !r->frame_bad && r->cobs_left == 0 && size >= HEADER_SIZE + CRC_SIZE;
    if (whole && crc32(0, frame, size - CRC_SIZE) == get(frame + size - CRC_SIZE, CRC_SIZE))
        take_frame(r, frame, size - HEADER_SIZE - CRC_SIZE);
    else if (r->frame_begun)
        gap(r);
    r->frame_begun = r->frame_bad = r->cobs_zero = false;
    r->frame_size = r->cobs_left = 0;
}

static void add_to_frame(rcp_t *r, uint8_t byte)
{
    if (r->frame_size < r->port->max_frame)
        r->port->frame[r->frame_size++] = byte;
    else
        r->frame_bad = true;
}

/* Returns whether a run of bytes has come to its end. */
static bool take_byte(rcp_t *r, uint8_t byte)
{
    if (byte == 0) {
        bool begun = r->frame_begun;
        end_frame(r);
        return begun;
    }
    if (r->cobs_left > 0) {
        r->cobs_left--;
        add_to_frame(r, byte);
        return false;
    }
    if (r->cobs_zero)
        add_to_frame(r, 0);
    r->frame_begun = true;
    r->cobs_left = (uint8_t)(byte - 1);
    r->cobs_zero = byte != 255;
    return false;
}

/* ---- work ---- */

static uint32_t work(rcp_t *r)
{
    uint32_t code = 0;
    if (r->state == PREPARE || r->state == HASH) {
        r->heard_ms = now(r); /* this time does not count against a raised speed */
        if (r->heard_ms - r->busy_ms >= BUSY_REPEAT_MS)
            say_busy(r);
    }
    if ((r->state == PREPARE || r->state == RECV) && erase_is_due(r)) {
        code = erase_block(r);
        if (r->state == RECV && grow_credit(r))
            acknowledge(r);
    } else if (r->state == PREPARE) {
        accept(r);
    } else if (r->state == HASH) {
        code = hash_slice(r);
    } else if (r->state == RESTART && r->port->sent(r->port->context)) {
        r->port->restart(r->port->context);
    }
    return code;
}

/* What is left of `limit_ms` since a time. */
static uint32_t left(const rcp_t *r, uint32_t since_ms, uint32_t limit_ms)
{
    uint32_t gone = now(r) - since_ms;
    return gone < limit_ms ? limit_ms - gone : 0;
}

static uint32_t left_of_speed(const rcp_t *r)
{
    return r->baud == r->port->base_baud ? UINT32_MAX : left(r, r->heard_ms, r->new_speed ? BAUD_FIRST_MS : BAUD_LATER_MS);
}

static uint32_t left_of_trial(const rcp_t *r)
{
    bool limited = r->image_state == ON_TRIAL && r->memory.tried_count > 0;
    return limited ? left(r, r->started_ms, r->memory.trial_s * 1000u) : UINT32_MAX;
}

bool rcp_init(rcp_t *r, const rcp_port_t *port)
{
    const uint32_t block = port->erase_block, unit = port->write_unit;
    memset(r, 0, sizeof *r);
    r->port = port;
    if (unit == 0 || (unit & (unit - 1)) != 0 || block < unit || (block & (block - 1)) != 0 || port->journal_area % block != 0 ||
        port->journal_area < 2 * padded(r, sizeof(copy_t)) || port->slot_size % block != 0 || port->max_frame < RCP_MIN_FRAME ||
        port->window == 0 || port->erase_ahead > UINT32_MAX - port->window || port->ring_size < 2)
        return false;
    r->baud = port->base_baud;
    r->started_ms = now(r);
    read_journal(r);
    judge_trial(r);
    begin_at_durable(r);
    return true;
}

bool rcp_rx_byte(rcp_t *r, uint8_t byte)
{
    volatile uint8_t *ring = r->port->ring; /* so that the byte is there before ring_in moves */
    uint32_t in = r->ring_in, next = in + 1 == r->port->ring_size ? 0 : in + 1;
    if (next == r->ring_out)
        return false;
    ring[in] = byte;
    r->ring_in = next;
    return true;
}

void rcp_poll(rcp_t *r)
{
    uint32_t code;
    bool whole = false;
    if (r->next_baud != 0 && r->port->sent(r->port->context))
        switch_baud(r, r->next_baud);
    while (!whole && r->ring_out != r->ring_in) {
        uint32_t out = r->ring_out;
        uint8_t byte = ((volatile const uint8_t *)r->port->ring)[out];
        r->ring_out = out + 1 == r->port->ring_size ? 0 : out + 1;
        whole = take_byte(r, byte);
    }
    code = work(r);
    if (code != 0)
        answer(r, ERROR, code, 2);
    if (left_of_speed(r) == 0)
        switch_baud(r, r->port->base_baud);
    if (left_of_trial(r) == 0)
        r->port->restart(r->port->context);
}

uint32_t rcp_idle_ms(const rcp_t *r)
{
    if (r->ring_in != r->ring_out || r->state == PREPARE || r->state == HASH || (r->state == RECV && erase_is_due(r)))
        return 0;
    if (r->state == RESTART || r->next_baud != 0)
        return 1;
    return smaller(left_of_speed(r), left_of_trial(r));
}
