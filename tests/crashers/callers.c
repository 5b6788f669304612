/* Two functions that call null, and are called from one place: callers first | second.
 *
 * Dies by SIGSEGV (SEGV_MAPERR, 0, execute).
 * Chain: (0) do_<kind> chooses main. */
#include <string.h>

#include "crash.h"

typedef void function(void);

static function *volatile null;

FRAME void do_first(void)
{
	null();
	KEEP_FRAME();
}

FRAME void do_second(void)
{
	null();
	KEEP_FRAME();
}

FRAME int chooses(function *run)
{
	run();
	KEEP_FRAME();
	return 1;
}

int main(int argc, char **argv)
{
	int is_first = argc > 1 && !strcmp(argv[1], "first");
	int y = chooses(is_first ? do_first : do_second);

	KEEP_FRAME();
	return y & 1;
}
