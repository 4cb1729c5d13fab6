/* messages.h - every message that peers exchange: name, fields, types, limits, once.
 *
 * The macros build structs and tables and nothing else; codec.c walks the tables to encode, decode
 * and validate, tools/protodoc prints docs/protocol.md from them, the fuzz targets and round-trip
 * tests loop over them.  To add a message or a field, add a row.
 *
 * On the wire a message is [type u8, rid u32, body map]; rid 0: no answer wanted, an answer
 * repeats it.  Keys are the short wire names.  Unknown keys are skipped, unknown types answered
 * with ERROR unsupported; a missing key, a wrong type or a value out of range is ERR_MALFORMED or
 * ERR_RANGE and the sender gets a strike.
 *
 * Field types: U unsigned integer, DBL finite 64-bit float, BIN bytes, STR UTF-8 text (limits are
 * lengths in bytes), BINS list of at most `max` byte strings, UINTS list of at most `max` unsigned
 * 32-bit integers.  OPT fields may be missing, zero or empty (all the same: they are not sent then);
 * any other value keeps to min and max, as in "no id, or one of 32 bytes". */
#ifndef PROTO_MESSAGES_H
#define PROTO_MESSAGES_H

#include "base/slice.h"

#include <stdint.h>

enum {
    ID_BYTES = 32,          /* node, model and hash ids */
    SESSION_BYTES = 16,
    REQUEST_BYTES = 16,
    SIG_BYTES = 64,
    ADDR_MIN = 6,           /* an address: 4 or 16 bytes, then the port, big endian */
    ADDR_MAX = 18,
    RECORD_BYTES_MAX = 2048,
    RECORDS_MAX = 24,       /* in one message */
    RANGES_MAX = 16,        /* lo, hi pairs of layers in one record: 8 ranges */
    ADDRS_MAX = 8,
    ROWS_MAX = 512,         /* rows in one ACT */
    ACT_BYTES_MAX = 8 << 20,
    SHARE_BYTES_MAX = 8 << 20, /* vectors in one SHARE_WORK or SHARE_DONE */
    SHARE_ANSWER_MAX = 32 << 20, /* all of the SHARE_DONE to one SHARE_WORK */
    SHARE_PLACE_BYTES = 8,     /* a row's session and position */
    SHARE_PICKS_MAX = 1 << 18, /* bytes of the experts chosen for all rows */
    RTT_BYTES = 12,         /* a round trip in a record */
    RTTS_MAX = 16,
    PART_BYTES = 9,         /* a range of parts of layers in a record */
    PARTS_WIRE_MAX = 48,
    PART_ITEMS_MAX = 1024,  /* head groups, experts, dense parts of a layer */
    CONTEXT_MAX = 1 << 20,
    LAYER_MAX = 256,
    LIST_MAX = 32,          /* largest count of any list field */
    CONVERSATION_MAX = 1 << 20,
    ASKER_TAG = 8,
    LIKELY_BYTES_MAX = 7 << 10, /* of one ASK_TEXT */
    TRACE_EVENT_BYTES = 40,
    TRACE_BYTES_MAX = 100 * TRACE_EVENT_BYTES, /* of one ASK_TEXT */
    HASH_WIRE = 32,         /* BLAKE2b-256 */
    MANIFEST_WIRE_MAX = 1 << 20,
    TILE_MESSAGE_MAX = 4 << 20,
    NAMES_MAX = 8,          /* names of one model in one MANIFEST */
    TOKEN_BYTES = 32,       /* of a node's control */
    STATUS_MAX = 63 << 10,
    WATCH_MS_MAX = 60000,
    PLAN_ONLY_MAP = 2, /* of ASK's plan_only */
    PLAN_JSON_MAX = 15 << 10,
    PREFIX_BLOCK = 32,      /* positions that are kept together: 2 blocks of KV_BLOCK */
    PREFIX_ASKS = 64,       /* hashes in one SESS_OPEN */
    PREFIX_TOLD = 64,       /* and in one PREFIX */
    WAIT_MS_MAX = 86400000,
};

/*    name          id  limit on the whole message    meaning */
/* clang-format off */
#define MESSAGE_LIST(M)                                                                           \
    M(HELLO,        1,  1024,                "who speaks; the payload of the handshake")          \
    M(PING,         2,  64,                  "are you there")                                     \
    M(PONG,         3,  64,                  "answer to PING")                                    \
    M(ERROR,        4,  512,                 "a request failed, or a message was refused")        \
    M(RECORDS,      8,  64 << 10,            "signed announcements, passed on unchanged")         \
    M(RECORDS_GET,  9,  64,                  "send me every record you know")                     \
    M(MANIFEST_GET,12,  64,                  "send me the manifest of a model")                   \
    M(MANIFEST,    13,  MANIFEST_WIRE_MAX + 4096, "a manifest and its signed names, or why not")  \
    M(TILE_GET,    14,  64,                  "send me a tile (weights, a tile table, a piece of a tokenizer)") \
    M(TILE,        15,  TILE_MESSAGE_MAX + 256, "a tile, or why not")                             \
    M(TILE_CANCEL, 16,  64,                  "somebody else was faster: do not send it")          \
    M(HOLD,        17,  128,                 "control to node: hold and serve these layers from now on") \
    M(SESS_OPEN,   20,  4096,                "coordinator to stage: open a session")              \
    M(SESS_OK,     21,  128,                 "stage to coordinator: the session is open")         \
    M(ACT,         22,  ACT_BYTES_MAX + 512, "rows of hidden vectors for the next stage")         \
    M(STEP_DONE,   23,  256,                 "stage to coordinator: a step is computed")          \
    M(KV_TRIM,     24,  128,                 "coordinator to stage: forget positions at and past len") \
    M(PREFIX,      25,  2304,                "stage to coordinator: these first rows will be known") \
    M(SESS_CLOSE,  27,  128,                 "coordinator to stage: free the session")            \
    M(SESS_FAIL,   28,  512,                 "stage to coordinator: the session ended, and why")  \
    M(SHARE_OPEN,  30,  512,                 "leader to member: I shall send work; or: a session's K and V") \
    M(SHARE_OK,    31,  128,                 "member to leader: it is open")                      \
    M(SHARE_WORK,  32,  SHARE_BYTES_MAX + SHARE_PICKS_MAX + 8192, "leader to member: compute these parts of a layer") \
    M(SHARE_DONE,  33,  SHARE_BYTES_MAX + 256, "member to leader: some of what was asked for")    \
    M(SHARE_CLOSE, 34,  64,                  "leader to member: free the session, or all")        \
    M(SHARE_FAIL,  35,  512,                 "member to leader: not opened or not computed, and why") \
    M(DIALBACK,    50,  64,                  "can I be reached at this port of the address that you see") \
    M(DIALBACK_DONE, 51, 512,                "answer to DIALBACK")                                \
    M(ASK,         40,  CONVERSATION_MAX + 1024, "client to coordinator: answer this conversation") \
    M(ASK_PLAN,    41,  16 << 10,            "coordinator to client: who will compute what")      \
    M(ASK_TEXT,    42,  20 << 10,            "coordinator to client: a piece of the answer")      \
    M(ASK_DONE,    43,  8 << 10,             "coordinator to client: the answer is complete")     \
    M(ASK_CANCEL,  44,  64,                  "client to coordinator: stop answering")           \
    M(ASK_NOTE,    45,  512,                 "coordinator to client: what happens to the pipeline") \
    M(ASK_RESUME,  47,  128,                 "client to coordinator: I am back, go on with my request") \
    M(ASK_HEARD,   48,  64,                  "client to coordinator: ASK_DONE has come, forget my request") \
    M(STATUS_GET,  56,  128,                 "control to node: how are you")                      \
    M(STATUS,      57,  64 << 10,            "node to control: answer to all of control")   \
    M(DRAIN,       58,  128,                 "control to node: hand over what you do, then stop") \
    M(PAUSE,       59,  128,                 "control to node: pause from others' work, or go on")

/*      field          key     type    opt  min max              meaning */
#define HELLO_FIELDS(F)                                                                           \
    F(id,           "id",   BIN,   REQ, ID_BYTES, ID_BYTES,     "Ed25519 key: the node's id")     \
    F(cert,         "cert", BIN,   REQ, SIG_BYTES, SIG_BYTES,   "signature of the session's X25519 key by id") \
    F(not_after,    "na",   U,     REQ, 1, UINT64_MAX,          "unix seconds until which cert holds") \
    F(agent,        "ag",   STR,   REQ, 0, 32,                  "program and version")            \
    F(role,         "role", U,     REQ, 0, 15,                  "bits: 1 serves, 2 asks, 4 relays, 8 gateway") \
    F(observed,     "obs",  BIN,   OPT, ADDR_MIN, ADDR_MAX,         "your address as I see it")   \
    F(features,     "feat", U,     OPT, 0, UINT64_MAX,          "bits for later")             \
    F(instance,     "in",   U,     OPT, 0, UINT64_MAX,          "random, of this run of the program; 0: not told")

#define PING_FIELDS(F)                                                                            \
    F(stamp,        "t",    U,     REQ, 0, UINT64_MAX,          "echoed")
#define PONG_FIELDS(F)                                                                            \
    F(stamp,        "t",    U,     REQ, 0, UINT64_MAX,          "from the PING")                  \
    F(queue,        "q",    U,     OPT, 0, 65535,               "jobs waiting here")

#define ERROR_FIELDS(F)                                                                           \
    F(code,         "c",    U,     REQ, 1, 255,                 "an error code of the table below") \
    F(text,         "m",    STR,   REQ, 0, 300,                 "for people; no secrets")         \
    F(retry_ms,     "ra",   U,     OPT, 0, 86400000,            "try again after this time")

#define RECORDS_FIELDS(F)                                                                         \
    F(records,      "r",    BINS,  REQ, 0, RECORDS_MAX,         "each: signature(64) then the record's bytes")
#define RECORDS_GET_FIELDS(F)                                                                     \
    F(model,        "m",    BIN,   OPT, ID_BYTES, ID_BYTES,     "only this model; empty: all")

#define MANIFEST_GET_FIELDS(F)                                                                    \
    F(model,        "m",    BIN,   REQ, ID_BYTES, ID_BYTES,     "model id")
#define MANIFEST_FIELDS(F)                                                                        \
    F(model,        "m",    BIN,   REQ, ID_BYTES, ID_BYTES,     "as in MANIFEST_GET")             \
    F(body,         "d",    BIN,   OPT, 1, MANIFEST_WIRE_MAX,   "its BLAKE2b-256 is the model id") \
    F(names,        "n",    BINS,  OPT, 0, NAMES_MAX,           "each: publisher(32), signature(64), the name") \
    F(refusal,      "no",   U,     OPT, 1, 2,                   "instead of body: 1 not here, 2 busy")
#define TILE_GET_FIELDS(F)                                                                        \
    F(hash,         "h",    BIN,   REQ, HASH_WIRE, HASH_WIRE,   "BLAKE2b-256 of its bytes")
#define TILE_FIELDS(F)                                                                            \
    F(hash,         "h",    BIN,   REQ, HASH_WIRE, HASH_WIRE,   "as in TILE_GET")                 \
    F(data,         "d",    BIN,   OPT, 1, TILE_MESSAGE_MAX,    "the tile")                       \
    F(refusal,      "no",   U,     OPT, 1, 2,                   "instead of data: 1 not here, 2 busy")
#define TILE_CANCEL_FIELDS(F)                                                                     \
    F(hash,         "h",    BIN,   REQ, HASH_WIRE, HASH_WIRE,   "as in TILE_GET")

#define HOLD_FIELDS(F)                                                                            \
    F(token,        "tok",  BIN,   REQ, TOKEN_BYTES, TOKEN_BYTES, "proves that the sender may")   \
    F(layer_lo,     "l0",   U,     REQ, 0, LAYER_MAX,           "first layer")                    \
    F(layer_hi,     "l1",   U,     REQ, 0, LAYER_MAX,           "one past the last layer")        \
    F(ends,         "ends", U,     OPT, 0, 1,                   "the ends too")

#define DIALBACK_FIELDS(F)                                                                        \
    F(port,         "p",    U,     REQ, 1, 65535,               "TCP; only the address of this connection is dialled")
#define DIALBACK_DONE_FIELDS(F)                                                                   \
    F(result,       "ok",   U,     REQ, 0, 2,                   "0 nobody answered there, or somebody else; 1 you did; 2 not tried") \
    F(addr,         "a",    BIN,   OPT, ADDR_MIN, ADDR_MAX,     "what was dialled")               \
    F(text,         "m",    STR,   OPT, 0, 300,                 "why not, for people")

#define SESS_OPEN_FIELDS(F)                                                                       \
    F(session,      "s",    BIN,   REQ, SESSION_BYTES, SESSION_BYTES, "random")                   \
    F(epoch,        "e",    U,     REQ, 0, UINT32_MAX,          "grows when the pipeline changes") \
    F(model,        "m",    BIN,   REQ, ID_BYTES, ID_BYTES,     "model id")                       \
    F(layer_lo,     "l0",   U,     REQ, 0, LAYER_MAX,           "first layer")                    \
    F(layer_hi,     "l1",   U,     REQ, 1, LAYER_MAX,           "one past the last layer")        \
    F(max_tokens,   "max",  U,     REQ, 1, CONTEXT_MAX,         "positions this session may use") \
    F(next_id,      "nx",   BIN,   OPT, ID_BYTES, ID_BYTES,     "the next stage; empty: back to the sender") \
    F(next_addr,    "na",   BIN,   OPT, ADDR_MIN, ADDR_MAX,         "where the next stage is reached") \
    F(prev_id,      "pv",   BIN,   REQ, ID_BYTES, ID_BYTES,     "who may send ACT")               \
    F(priority,     "pri",  U,     OPT, 0, 7,                   "0 is usual; the more, the more others go first") \
    F(adopts,       "ad",   BIN,   OPT, SESSION_BYTES, SESSION_BYTES, "a session of the sender for the same layers, of which this is to go on") \
    F(prefixes,     "pf",   BIN,   OPT, HASH_WIRE, PREFIX_ASKS * HASH_WIRE, "hashes of PREFIX, the longest first rows first: K and V of which may be there") \
    F(keeps,        "kp",   U,     OPT, 0, 1,                   "the stage may keep K and V for later sessions of the sender") \
    F(trace,        "tr",   U,     OPT, 0, 1,                   "each STEP_DONE is to say when the rows came")
#define SESS_OK_FIELDS(F)                                                                         \
    F(session,      "s",    BIN,   REQ, SESSION_BYTES, SESSION_BYTES, "as in SESS_OPEN")          \
    F(epoch,        "e",    U,     REQ, 0, UINT32_MAX,          "as in SESS_OPEN")                \
    F(held,         "kv",   U,     REQ, 0, CONTEXT_MAX,         "positions whose rows need not be computed: they are answered from what was sent on")         \
    F(limit,        "lim",  U,     REQ, 1, CONTEXT_MAX,         "positions this stage grants")    \
    F(known,        "kn",   U,     OPT, 0, CONTEXT_MAX,         "positions whose K and V are there: the rows may begin at any up to this")
#define ACT_FIELDS(F)                                                                             \
    F(session,      "s",    BIN,   REQ, SESSION_BYTES, SESSION_BYTES, "as in SESS_OPEN")          \
    F(epoch,        "e",    U,     REQ, 0, UINT32_MAX,          "as in SESS_OPEN")                \
    F(pos,          "p",    U,     REQ, 0, CONTEXT_MAX,         "position of the first row")      \
    F(rows,         "n",    U,     REQ, 1, ROWS_MAX,            "number of rows")                 \
    F(step,         "st",   U,     REQ, 0, UINT32_MAX,          "counts the session's steps")     \
    F(want,         "w",    U,     REQ, 0, ROWS_MAX,            "rows at the end that the coordinator wants back") \
    F(drafts,       "dr",   U,     OPT, 0, ROWS_MAX,            "rows at the end that are guesses: the next rows may begin in their place") \
    F(together,     "tg",   U,     OPT, 0, ROWS_MAX,            "sessions of this coordinator that a stage computes in one batch, at most; 0: any number") \
    F(x,            "x",    BIN,   REQ, 1, ACT_BYTES_MAX,       "[rows][hidden] in the model's exchange type")
#define STEP_DONE_FIELDS(F)                                                                       \
    F(session,      "s",    BIN,   REQ, SESSION_BYTES, SESSION_BYTES, "as in SESS_OPEN")          \
    F(epoch,        "e",    U,     REQ, 0, UINT32_MAX,          "as in SESS_OPEN")                \
    F(step,         "st",   U,     REQ, 0, UINT32_MAX,          "as in ACT")                      \
    F(compute_us,   "us",   U,     REQ, 0, UINT32_MAX,          "computing")                      \
    F(wait_us,      "wus",  U,     REQ, 0, UINT32_MAX,          "waiting for the processor") \
    F(came,         "at",   U,     OPT, 0, UINT64_MAX,          "if it is wanted: when the rows came, in microseconds of the stage's clock") \
    F(stay_us,      "sus",  U,     OPT, 0, UINT32_MAX,          "likewise: from then until they went on")
#define KV_TRIM_FIELDS(F)                                                                         \
    F(session,      "s",    BIN,   REQ, SESSION_BYTES, SESSION_BYTES, "as in SESS_OPEN")          \
    F(epoch,        "e",    U,     REQ, 0, UINT32_MAX,          "as in SESS_OPEN")                \
    F(len,          "len",  U,     REQ, 0, CONTEXT_MAX,         "positions to keep")
#define PREFIX_FIELDS(F)                                                                          \
    F(session,      "s",    BIN,   REQ, SESSION_BYTES, SESSION_BYTES, "as in SESS_OPEN")          \
    F(epoch,        "e",    U,     REQ, 0, UINT32_MAX,          "as in SESS_OPEN")                \
    F(first,        "f",    U,     REQ, 0, CONTEXT_MAX,         "number of the first block; a block is 32 positions") \
    F(hashes,       "h",    BIN,   REQ, HASH_WIRE, PREFIX_TOLD * HASH_WIRE, "of the stage's input rows up to the end of each block: docs/prefix.md")
#define SESS_CLOSE_FIELDS(F)                                                                      \
    F(session,      "s",    BIN,   REQ, SESSION_BYTES, SESSION_BYTES, "as in SESS_OPEN")          \
    F(epoch,        "e",    U,     REQ, 0, UINT32_MAX,          "as in SESS_OPEN")
#define SESS_FAIL_FIELDS(F)                                                                       \
    F(session,      "s",    BIN,   REQ, SESSION_BYTES, SESSION_BYTES, "as in SESS_OPEN")          \
    F(epoch,        "e",    U,     REQ, 0, UINT32_MAX,          "as in SESS_OPEN")                \
    F(code,         "c",    U,     REQ, 1, 255,                 "an error code")                  \
    F(text,         "m",    STR,   REQ, 0, 300,                 "for people")

/* A layer shared on one network (docs/sharing.md). */
#define SHARE_OPEN_FIELDS(F)                                                                      \
    F(share,        "s",    BIN,   REQ, SESSION_BYTES, SESSION_BYTES, "random: what this leader and this member do together") \
    F(number,       "k",    U,     OPT, 0, UINT32_MAX,          "of the session, the leader's choice; 0: the share itself") \
    F(model,        "m",    BIN,   REQ, ID_BYTES, ID_BYTES,     "model id")                       \
    F(parts,        "p",    UINTS, OPT, 0, LIST_MAX,            "layer lo, hi, head group lo, hi, ...: K and V are wanted for these") \
    F(max_tokens,   "max",  U,     OPT, 0, CONTEXT_MAX,         "positions this session may use")
#define SHARE_OK_FIELDS(F)                                                                        \
    F(share,        "s",    BIN,   REQ, SESSION_BYTES, SESSION_BYTES, "as in SHARE_OPEN")         \
    F(number,       "k",    U,     OPT, 0, UINT32_MAX,          "as in SHARE_OPEN")
#define SHARE_WORK_FIELDS(F)                                                                      \
    F(share,        "s",    BIN,   REQ, SESSION_BYTES, SESSION_BYTES, "as in SHARE_OPEN")         \
    F(layer,        "l",    U,     REQ, 0, LAYER_MAX,           "of the model")                   \
    F(kind,         "t",    U,     REQ, 1, 3,                   "1 head groups, 2 experts, 3 dense parts") \
    F(lo,           "lo",   U,     OPT, 0, UINT16_MAX,          "first head group or dense part") \
    F(hi,           "hi",   U,     OPT, 0, UINT16_MAX,          "one past the last")              \
    F(lead,         "ld",   U,     OPT, 0, UINT16_MAX,          "so many of them, from the first, as their sum in f32") \
    F(rows,         "n",    U,     REQ, 1, ROWS_MAX,            "vectors in x")                   \
    F(places,       "at",   BIN,   OPT, SHARE_PLACE_BYTES, ROWS_MAX * SHARE_PLACE_BYTES, "head groups: of each row the session's number and the position, each u32, big endian") \
    F(picks,        "pk",   BIN,   OPT, 1, SHARE_PICKS_MAX,     "experts: of each row their count u8, how many of them, from the first, as their sum u8, then of each its number u16 (ascending) and weight f32, little endian") \
    F(x,            "x",    BIN,   REQ, 1, SHARE_BYTES_MAX,     "[rows] what the products read: int8 in whole blocks of 32, then their scales f32; or f32; little endian")
#define SHARE_DONE_FIELDS(F)                                                                      \
    F(share,        "s",    BIN,   REQ, SESSION_BYTES, SESSION_BYTES, "as in SHARE_OPEN")         \
    F(at,           "at",   U,     OPT, 0, UINT32_MAX,          "where in the answer x belongs; it comes in order") \
    F(us,           "us",   U,     OPT, 0, UINT32_MAX,          "with the last of it: computing") \
    F(x,            "x",    BIN,   REQ, 1, SHARE_BYTES_MAX,     "of each row the sum f32, if one was asked for, then the other pieces in the exchange type")
#define SHARE_CLOSE_FIELDS(F)                                                                     \
    F(share,        "s",    BIN,   REQ, SESSION_BYTES, SESSION_BYTES, "as in SHARE_OPEN")         \
    F(number,       "k",    U,     OPT, 0, UINT32_MAX,          "of the session; 0: all")
#define SHARE_FAIL_FIELDS(F)                                                                      \
    F(share,        "s",    BIN,   REQ, SESSION_BYTES, SESSION_BYTES, "as in SHARE_OPEN")         \
    F(code,         "c",    U,     REQ, 1, 255,                 "an error code")                  \
    F(text,         "m",    STR,   REQ, 0, 300,                 "for people")

#define ASK_FIELDS(F)                                                                             \
    F(model,        "m",    STR,   OPT, 0, 64,                  "name; empty: the node's own")    \
    F(conversation, "msgs", STR,   REQ, 2, CONVERSATION_MAX,    "JSON {\"messages\": [...], \"tools\": [...]}, or {\"prompt\": text}") \
    F(think,        "th",   U,     OPT, 0, 2,                   "0 as the model does, 1 on, 2 off") \
    F(sampling,     "smp",  U,     REQ, 0, 31,                  "bits: which of the next five fields are set, in order") \
    F(temperature,  "temp", DBL,   OPT, 0, 100,                 "0: greedy")                      \
    F(top_p,        "topp", DBL,   OPT, 0, 1,                   "keep the most probable tokens up to this sum") \
    F(min_p,        "minp", DBL,   OPT, 0, 1,                   "drop tokens below this share of the most probable one") \
    F(top_k,        "topk", U,     OPT, 0, UINT32_MAX,          "keep so many of the most probable tokens; 0: all") \
    F(seed,         "seed", U,     OPT, 0, UINT64_MAX,          "the same seed gives the same answer") \
    F(max_tokens,   "max",  U,     OPT, 0, CONTEXT_MAX,         "tokens to generate; 0: as many as fit") \
    F(plan_only,    "plan", U,     OPT, 0, 2,                   "1: explain the pipeline, compute nothing; 2: list the nodes of the model instead") \
    F(request,      "req",  BIN,   OPT, REQUEST_BYTES, REQUEST_BYTES, "random: by this ASK_RESUME finds the request; empty: it ends with the connection") \
    F(later,        "late", U,     OPT, 0, 1,                   "it is in no hurry: others go first") \
    F(draft,        "dr",   U,     OPT, 0, 3,                   "guesses of tokens to come: 0 as the node does, 1 none, 2 by what was said before, 3 by the model's prediction layer") \
    F(asker,        "for",  BIN,   OPT, ASKER_TAG, ASKER_TAG,   "random: which of the client's own users it is for; each has a share of the client's turns") \
    F(frequency,    "fpen", DBL,   OPT, 1, 5,                   "3 + the penalty on a token for each time the answer holds it; none: 3") \
    F(presence,     "ppen", DBL,   OPT, 1, 5,                   "3 + the penalty on a token that the answer holds; none: 3") \
    F(likely,       "lp",   U,     OPT, 1, 21,                  "log probabilities are told of each token and so many less one of the most likely ones") \
    F(watch_ms,     "w",    U,     OPT, 0, WATCH_MS_MAX,        "say so often in an ASK_PLAN how long the stages and the ways take; 0: at the end only") \
    F(trace,        "tr",   U,     OPT, 0, 1,                   "when what was computed is told too")
#define ASK_PLAN_FIELDS(F)                                                                        \
    F(plan,         "plan", STR,   REQ, 2, PLAN_JSON_MAX,           "JSON: stages and prediction; or the nodes, or the times so far")
#define ASK_TEXT_FIELDS(F)                                                                        \
    F(index,        "i",    U,     REQ, 0, UINT32_MAX,          "generated tokens so far")        \
    F(text,         "t",    STR,   REQ, 0, 8 << 10,             "whole characters")               \
    F(thinking,     "th",   U,     OPT, 0, 1,                   "part of the model's reasoning") \
    F(likely,       "lp",   BIN,   OPT, 1, LIKELY_BYTES_MAX,    "of each token of the text that is no reasoning: n u8, then n times the log probability f32 and a token's bytes, their count u8 before them; its own first, then the most likely ones; little endian") \
    F(trace,        "tr",   BIN,   OPT, TRACE_EVENT_BYTES, TRACE_BYTES_MAX, "events of the request, each of 40 bytes: docs/tracing.md; the text may be empty then")
#define ASK_DONE_FIELDS(F)                                                                        \
    F(reason,       "why",  U,     REQ, 0, 2,                   "0 the model stopped, 1 length, 2 cancelled") \
    F(n_prompt,     "np",   U,     REQ, 0, CONTEXT_MAX,         "prompt tokens")                  \
    F(n_tokens,     "nt",   U,     REQ, 0, CONTEXT_MAX,         "generated tokens")               \
    F(prefill_us,   "pus",  U,     REQ, 0, UINT64_MAX,          "until the first token")          \
    F(decode_us,    "dus",  U,     REQ, 0, UINT64_MAX,          "the rest")                       \
    F(stats,        "st",   STR,   OPT, 0, 7 << 10,             "JSON: time by stage")            \
    F(n_thinking,   "nth",  U,     OPT, 0, CONTEXT_MAX,         "generated tokens that were reasoning, its marks included") \
    F(n_known,      "nk",   U,     OPT, 0, CONTEXT_MAX,         "prompt tokens that were not computed: their K and V were kept")
#define ASK_NOTE_FIELDS(F)                                                                        \
    F(text,         "m",    STR,   REQ, 0, 300,                 "for people")                     \
    F(place,        "pl",   U,     OPT, 1, 65535,               "its place in the queue, 1 is next; none: it does not wait") \
    F(wait_ms,      "wms",  U,     OPT, 1, WAIT_MS_MAX,         "about how long it waits there; none: not known")
#define ASK_RESUME_FIELDS(F)                                                                      \
    F(request,      "req",  BIN,   REQ, REQUEST_BYTES, REQUEST_BYTES, "as in ASK, from the same id") \
    F(heard,        "h",    U,     REQ, 0, UINT32_MAX,          "bytes of text that have come, reasoning included")
#define ASK_HEARD_FIELDS(F)                                                                       \
    F(request,      "req",  BIN,   REQ, REQUEST_BYTES, REQUEST_BYTES, "as in ASK, from the same id")
#define ASK_CANCEL_FIELDS(F)                                                                      \
    F(unused,       "x",    U,     OPT, 0, 0,                   "nothing yet")

/* Whoever reads the file that a node leaves for its own user knows its token (runtime_dir.h). */
#define STATUS_GET_FIELDS(F)                                                                      \
    F(token,        "tok",  BIN,   REQ, TOKEN_BYTES, TOKEN_BYTES, "proves that the sender may")
#define STATUS_FIELDS(F)                                                                          \
    F(status,       "st",   STR,   REQ, 2, STATUS_MAX,          "JSON, see docs/status.md")
#define DRAIN_FIELDS(F)                                                                           \
    F(token,        "tok",  BIN,   REQ, TOKEN_BYTES, TOKEN_BYTES, "proves that the sender may")
#define PAUSE_FIELDS(F)                                                                           \
    F(token,        "tok",  BIN,   REQ, TOKEN_BYTES, TOKEN_BYTES, "proves that the sender may")   \
    F(stay,         "on",   U,     OPT, 0, 1,                   "1: pause until told otherwise; 0: go on")

/* The body of a signed record (directory.h): the same kind of table, but canonical: minimal
 * integers, keys in this order, no unknown keys. */
#define RECORD_FIELDS(F)                                                                          \
    F(version,      "v",    U,     REQ, 2, 2,                   "of this table")                  \
    F(id,           "id",   BIN,   REQ, ID_BYTES, ID_BYTES,     "whose record this is")           \
    F(seq,          "seq",  U,     REQ, 1, UINT64_MAX,          "grows with every new record")    \
    F(made,         "ts",   U,     REQ, 1, UINT64_MAX,          "unix seconds")                   \
    F(expires,      "exp",  U,     REQ, 1, UINT64_MAX,          "unix seconds; at most 900 after ts") \
    F(addrs,        "ad",   BINS,  REQ, 0, ADDRS_MAX,           "where the node is reached")      \
    F(state,        "st",   U,     REQ, 0, 3,                   "0 joining, 1 active, 2 draining, 3 gone") \
    F(model,        "m",    BIN,   OPT, ID_BYTES, ID_BYTES,     "model id; empty: holds nothing") \
    F(model_name,   "mn",   STR,   OPT, 0, 64,                  "a label only")                   \
    F(layers,       "l",    UINTS, OPT, 0, RANGES_MAX,          "lo, hi, lo, hi ...: whole layers held; when joining: those to come") \
    F(ends,         "ends", U,     OPT, 0, 1,                   "holds the ends: can coordinate") \
    F(coming,       "cm",   UINTS, OPT, 0, 2,                   "lo, hi: layers it fetches, to serve them instead") \
    F(parts,        "pt",   BIN,   OPT, PART_BYTES, PARTS_WIRE_MAX * PART_BYTES, "parts of other layers held: of each range layers lo, hi, kind, items lo, hi, big endian, the kind in one byte (0 trunk, 1 head groups, 2 experts, 3 dense parts), the others in two") \
    F(piece_us,     "pu",   UINTS, OPT, 0, 3,                   "microseconds that a head group, an expert, a dense part takes for one token") \
    F(together,     "tg",   U,     OPT, 0, 64,                  "so many nodes compute these layers together, this one included") \
    F(gives,        "gv",   UINTS, OPT, 0, RANGES_MAX,          "lo, hi, lo, hi ...: layers whose tiles it gives") \
    F(gives_ends,   "ge",   U,     OPT, 0, 1,                   "it gives the ends' tiles, and the tokenizer's") \
    F(layer_us,     "d",    U,     OPT, 0, UINT32_MAX,          "microseconds a layer takes for one token") \
    F(prefill,      "p",    U,     OPT, 0, UINT32_MAX,          "prompt rows a second through one layer") \
    F(uplink,       "up",   U,     OPT, 0, UINT32_MAX,          "kbit/s that it can send")        \
    F(rtts,         "rtt",  BIN,   OPT, RTT_BYTES, RTTS_MAX * RTT_BYTES, "round trips to connected nodes, by id: its first 8 bytes, then microseconds in 4, big endian") \
    F(kv_tokens,    "kv",   U,     OPT, 0, UINT32_MAX,          "free positions")                 \
    F(context,      "ctx",  U,     OPT, 0, CONTEXT_MAX,         "largest session granted")        \
    F(sessions,     "ss",   U,     OPT, 0, 65535,               "open sessions")                  \
    F(agent,        "ag",   STR,   OPT, 0, 32,                  "program and version")            \
    F(name,         "nm",   STR,   OPT, 0, 32,                  "a label only")

/*    name            code  text for people */
#define WIRE_ERROR_LIST(E)                                                                        \
    E(BAD_MESSAGE,     1, "the message does not follow the protocol")                             \
    E(UNSUPPORTED,     2, "this node does not know that message")                                 \
    E(TOO_BIG,         3, "the message is larger than its type allows")                           \
    E(RATE_LIMITED,    4, "too many requests; slow down")                                         \
    E(BUSY,            5, "this node is busy; try again later")                                   \
    E(NO_SUCH_MODEL,   6, "this node does not hold that model")                                   \
    E(NO_SUCH_LAYERS,  7, "this node does not hold those layers")                                 \
    E(NO_SUCH_SESSION, 8, "no such session here")                                                 \
    E(STALE_EPOCH,     9, "the pipeline has changed since")                                       \
    E(OUT_OF_ORDER,   10, "rows came out of order")                                               \
    E(KV_FULL,        11, "the conversation is longer than this node can hold")                   \
    E(NO_MEMORY,      12, "this node is out of memory")                                           \
    E(NOT_ALLOWED,    13, "this node does not allow that")                                        \
    E(SHUTTING_DOWN,  14, "this node is shutting down")                                           \
    E(BAD_SIGNATURE,  15, "a signature does not verify")                                          \
    E(EXPIRED,        16, "the record has expired")                                               \
    E(INTERNAL,       17, "something went wrong in this node")                                    \
    E(TIMEOUT,        18, "no answer in time")                                                    \
    E(NO_PIPELINE,    19, "the swarm does not hold every layer of the model")                     \
    E(LOST_STAGE,     20, "a node of the pipeline has gone")                                      \
    E(NONFINITE,      21, "a number of the model's computation is not finite")                    \
    E(BAD_REQUEST,    22, "the request cannot be answered")                                        \
    E(LOST_MEMBER,    23, "a node that shares layers with this one has gone")
/* clang-format on */

/* --- what the rows build --- */

enum field_type { FIELD_U, FIELD_DBL, FIELD_BIN, FIELD_STR, FIELD_BINS, FIELD_UINTS };

struct bins {
    uint32_t n;
    struct slice p[LIST_MAX];
};
struct uints {
    uint32_t n;
    uint32_t p[LIST_MAX];
};

#define FIELD_C_U uint64_t
#define FIELD_C_DBL double
#define FIELD_C_BIN struct slice
#define FIELD_C_STR struct slice
#define FIELD_C_BINS struct bins
#define FIELD_C_UINTS struct uints
#define FIELD_MEMBER(name, key, type, opt, min, max, meaning) FIELD_C_##type name;

#define M(NAME, id, limit, meaning)                                                               \
    struct msg_##NAME {                                                                           \
        NAME##_FIELDS(FIELD_MEMBER)                                                               \
    };
MESSAGE_LIST(M)
#undef M
struct record_body {
    RECORD_FIELDS(FIELD_MEMBER)
};

enum msg_type {
#define M(NAME, id, limit, meaning) MSG_##NAME = id,
    MESSAGE_LIST(M)
#undef M
};

enum wire_error {
#define E(NAME, code, text) WIRE_##NAME = code,
    WIRE_ERROR_LIST(E)
#undef E
};

/* One message; slices borrow from the bytes it was decoded from, or from whoever built it. */
struct msg {
    enum msg_type type;
    uint32_t rid;
    union {
#define M(NAME, id, limit, meaning) struct msg_##NAME NAME;
        MESSAGE_LIST(M)
#undef M
    } u;
};

#endif
