#include "ask/draft.h"

#include "base/log.h"

enum { ROWS_AT_ONCE = DRAFT_MAX + 1 }; /* of all requests together, drafts included */

/* The other requests' load is not in this one's times: where many are under way, rows are dear. */
static uint32_t most_drafts(const struct request *r)
{
    uint32_t n = 0;
    for (const struct request *k = r->c->first; k; k = k->next) n += k->pipeline && !k->is_ended;
    return n > 0 && n < ROWS_AT_ONCE ? ROWS_AT_ONCE / n - 1 : 0;
}

static enum draft_mode mode_of(const struct request *r)
{
    enum draft_mode of_node = r->c->c.draft;
    return of_node == DRAFT_OFF || !r->draft_mode ? of_node : r->draft_mode;
}

/* false: this request has none. */
static bool open_drafter(struct request *r)
{
    const struct weights *w = r->c->c.weights;
    if (r->drafter) return true;
    if (r->has_no_drafts || mode_of(r) == DRAFT_OFF) return false;
    enum err e = drafter_open(&r->drafter, &w->manifest.arch, mode_of(r), w->predict.t != NULL);
    if (e) log_warn("an answer goes without drafts: %s", err_text(e));
    r->has_no_drafts = e != ERR_OK;
    return !e;
}

static void fill_in(struct request *r, struct next_job *j)
{
    struct drafting *d = &r->drafts;
    const struct manifest *m = &r->c->c.weights->manifest;
    j->drafting = d;
    d->drafter = r->drafter;
    d->eos = m->eos;
    d->n_eos = m->n_eos;
    d->most = most_drafts(r);
    d->n_guessed = d->n_right = 0;
}

void draft_rows_came(struct request *r, struct next_job *j, uint32_t n, const uint8_t *x)
{
    struct drafting *d = &r->drafts;
    memcpy(j->x, x, n * r->c->row_bytes);
    j->drafting = NULL;
    r->had_drafts = d->n_drafts > 0 || d->is_disturbed;
    if (!open_drafter(r)) return;
    fill_in(r, j);
    d->ids = r->prompt.ids.p;
    d->n_ids = request_rows(r);
    d->limit = r->limit - r->n_tokens;
    d->n_context = n - 1 - d->n_drafts;
}

void draft_home(struct request *r, struct next_job *j)
{
    j->drafting = NULL;
    if (!r->drafter) return;
    fill_in(r, j);
    r->drafts.ids = NULL; /* the drafter knows them; the list may move while the job is out */
    r->drafts.n_ids = 0;
}

uint32_t draft_want(struct request *r, uint32_t n)
{
    r->drafts.n_drafts = 0;
    r->drafts.is_disturbed = true;
    if (!open_drafter(r) || !drafter_wants_rows(r->drafter)) return 1;
    return n < DRAFT_KEPT ? n : DRAFT_KEPT;
}

void draft_came_back(struct request *r, const struct next_job *j)
{
    if (!j->drafting) return;
    r->n_guessed += j->drafting->n_guessed;
    r->n_right += j->drafting->n_right;
    counters_add(r->c->c.counters, COUNT_GUESSED, j->drafting->n_guessed);
    counters_add(r->c->c.counters, COUNT_RIGHT, j->drafting->n_right);
}

uint32_t draft_tokens(const struct next_job *j, int32_t token[DRAFT_MAX + 1])
{
    uint32_t n = j->drafting ? j->drafting->n_tokens : 1;
    memcpy(token, j->drafting ? j->drafting->token : &j->token, n * sizeof *token);
    return n;
}

void draft_send(struct request *r, uint32_t n_rows)
{
    pipeline_send_drafts(r->pipeline, n_rows - 1, next_job_drafts(&r->pick.next), r->pick.x);
}

void draft_learn(struct request *r, uint64_t before_ns, uint32_t pick_us)
{
    if (r->had_drafts || !before_ns) return;
    r->n_plain++;
    r->plain_us += (r->last_ns - before_ns) / 1000;
    r->plain_pick_us += pick_us;
}

bool draft_is_to_blame(struct request *r, enum wire_error code)
{
    if (code != WIRE_NONFINITE || !r->drafter || r->is_picking || r->drafts.n_drafts == 0)
        return false;
    log_info("a draft led to a number that is not finite; going on without drafts");
    draft_fini(r);
    r->has_no_drafts = true;
    return true;
}

void draft_fini(struct request *r)
{
    drafter_close(r->drafter);
    r->drafter = NULL;
}
