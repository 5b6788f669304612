// Bad values: pointers made of text, addresses that no processor accepts, a
// misaligned vector, signals that are sent rather than earned.
//
// chain text_pointer: text_pointer inner middle outer main <start>
// chain non_canonical_load: non_canonical_load inner middle outer main <start>
// chain misaligned: misaligned inner middle outer main <start>
// chain privileged: privileged inner middle outer main <start>
// chain read_only: read_only inner middle outer main <start>
// chain sends: *kill* sends inner middle outer main <start>
// chain raises: ... raises inner middle outer main <start>
// chain system_call: *syscall* system_call inner middle outer main <start>
// cause text_pointer: non_canonical
// cause non_canonical_load: non_canonical
// cause misaligned: misaligned
// cause privileged: privileged_instruction
// cause read_only: write_protected
// cause sends: sent
// cause raises: sent
// cause system_call: sent
#define _GNU_SOURCE
#include "chain.h"
#include <signal.h>
#include <sys/syscall.h>
#include <unistd.h>

CALLED void text_pointer(void)
{
	sink = **(volatile int *volatile *)hide((unsigned long)"AAAAAAAAAAAAAAAA");
	sink++;
}

CALLED void non_canonical_load(void)
{
	sink = *(volatile int *)hide(0x4141414141414141);
	sink++;
}

CALLED void misaligned(void)
{
	char bytes[64] __attribute__((aligned(64)));
	__asm__ volatile("movaps %%xmm0, (%0)" : : "r"(bytes + 1 + hide(0)) : "memory");
	sink += bytes[1];
}

CALLED void privileged(void)
{
	__asm__ volatile("hlt");
	sink++;
}

static const char constant[] = "constant";

CALLED void read_only(void)
{
	*(volatile int *)hide((unsigned long)constant) = 1;
	sink++;
}

CALLED void sends(void)
{
	kill(getpid(), SIGSEGV);
	sink++;
}

CALLED void raises(void)
{
	raise(SIGSEGV);
	sink++;
}

CALLED void system_call(void)
{
	syscall(SYS_tgkill, getpid(), syscall(SYS_gettid), SIGSEGV);
	sink++;
}

static const struct scenario scenarios[] = {
	{ "text_pointer", text_pointer },
	{ "non_canonical_load", non_canonical_load },
	{ "misaligned", misaligned },
	{ "privileged", privileged },
	{ "read_only", read_only },
	{ "sends", sends },
	{ "raises", raises },
	{ "system_call", system_call },
	{ 0, 0 },
};

int main(int argc, char **argv)
{
	return start(argc, argv, scenarios);
}
