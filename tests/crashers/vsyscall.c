/* Calls the vsyscall page of x86_64 where none of its functions begins. Elsewhere an
 * address that is as wild. Chain: the page, main. */
#include "crash.h"

int main(void)
{
	void (*volatile f)(void) = (void (*)(void))0xffffffffff600010;

	f();
	KEEP_FRAME();
	return 0;
}
