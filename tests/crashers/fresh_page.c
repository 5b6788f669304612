/* Crashes with its stack pointer at the very beginning of a page, below which
 * nothing was ever touched: the red zone cannot be read, the stack can.
 *
 * Dies by SIGSEGV (SEGV_MAPERR, write at 0). Chain: on_fresh_page main. */
#include <stddef.h>
#include <stdint.h>
#include <sys/mman.h>

#include "crash.h"

FRAME int on_fresh_page(char *page)
{
	/* The frame of a function without locals: only where it returns to. */
	void **top = (void **)page;

	top[0] = __builtin_return_address(0);
	top[1] = NULL;
#if defined(__x86_64__)
	__asm__ volatile("mov %0, %%rsp\n\txor %%eax, %%eax\n\tmovl $1, (%%rax)"
			 : : "r"(page) : "rax", "memory");
#else
	__asm__ volatile("mov sp, %0\n\tmov x0, xzr\n\tstr wzr, [x0]" : : "r"(page) : "x0", "memory");
#endif
	return 0;
}

int main(void)
{
	char *area = mmap(NULL, 1 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	int y = on_fresh_page(area + (1 << 19));

	KEEP_FRAME();
	return y;
}
