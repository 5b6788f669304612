/* Dies with values in its registers, and at an address, that follow from its
 * process id: whoever reports them can be checked to the last bit.
 *
 * With P the process id: writes to ADDRESS = 0x100000000000 + P * 4096 + 8; these
 * registers, counted from 0, hold P * 0x100000000 + 0x5eed0000 and their number:
 *   x86_64   rbx rdx rsi rdi rbp r8 r9 r10 r11 r12 r13 r14 r15; rax is ADDRESS
 *   aarch64  x1 to x28; x0 is ADDRESS
 *
 * Dies by SIGSEGV (SEGV_MAPERR, ADDRESS, write).
 * Chain: known_crash main. */
#include <stdint.h>
#include <unistd.h>

#include "crash.h"

FRAME int known_crash(uint64_t address, uint64_t first)
{
#if defined(__x86_64__)
	register uint64_t rax __asm__("rax") = address;
	register uint64_t rcx __asm__("rcx") = first;
	__asm__ volatile("lea 0(%%rcx), %%rbx\n"
			 "lea 1(%%rcx), %%rdx\n"
			 "lea 2(%%rcx), %%rsi\n"
			 "lea 3(%%rcx), %%rdi\n"
			 "lea 4(%%rcx), %%rbp\n"
			 "lea 5(%%rcx), %%r8\n"
			 "lea 6(%%rcx), %%r9\n"
			 "lea 7(%%rcx), %%r10\n"
			 "lea 8(%%rcx), %%r11\n"
			 "lea 9(%%rcx), %%r12\n"
			 "lea 10(%%rcx), %%r13\n"
			 "lea 11(%%rcx), %%r14\n"
			 "lea 12(%%rcx), %%r15\n"
			 "movl $7, (%%rax)"
			 :
			 : "r"(rax), "r"(rcx)
			 : "rbx", "rdx", "rsi", "rdi", "rbp", "r8", "r9", "r10", "r11", "r12", "r13",
			   "r14", "r15", "memory");
#elif defined(__aarch64__)
	register uint64_t x0 __asm__("x0") = address;
	register uint64_t x1 __asm__("x1") = first;
	__asm__ volatile(".irp n, 2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28\n"
			 "add x\\n, x1, #(\\n - 1)\n"
			 ".endr\n"
			 "str wzr, [x0]"
			 :
			 : "r"(x0), "r"(x1)
			 : "x2", "x3", "x4", "x5", "x6", "x7", "x8", "x9", "x10", "x11", "x12", "x13", "x14",
			   "x15", "x16", "x17", "x18", "x19", "x20", "x21", "x22", "x23", "x24", "x25",
			   "x26", "x27", "x28", "memory");
#endif
	KEEP_FRAME();
	return (int)first;
}

int main(void)
{
	uint64_t pid = (uint64_t)getpid();
	int y = known_crash(0x100000000008 + pid * 4096, (pid << 32) + 0x5eed0000);

	KEEP_FRAME();
	return y & 1;
}
