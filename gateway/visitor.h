/* visitor.h - is a request of this machine's own, or of a foreign page in its browser?
 *
 * A gateway on loopback without keys lets everybody ask who is on this machine.  The pages that its
 * users look at run here too, and come from anywhere.  Two headers, which a browser writes and a
 * page cannot, tell them:
 *
 *   Host    a page whose name turns into 127.0.0.1 behind our back (DNS rebinding) is of one origin
 *           with us, but its name is not ours
 *   Origin  a page of another origin may send a question, although it may not read the answer
 *
 * Programs that are no browsers send what they like, and are of this machine. */
#ifndef GATEWAY_VISITOR_H
#define GATEWAY_VISITOR_H

#include <stdbool.h>

/* host, origin: the headers, or NULL; cors: the origin that may, "*", or NULL. */
bool visitor_is_local(const char *host, const char *origin, const char *cors);

#endif
