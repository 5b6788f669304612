// Frames of unusual shape, and code without call-frame information.
//
// chain realigns: writes realigns inner middle outer main <start>
// chain leaf: bare leaf inner middle outer main <start>
// chain leaf_4k: bare_4k leaf_4k inner middle outer main <start>
// chain leaf_fp: bare_fp leaf_fp inner middle outer main <start>
// chain calls_bare: writes called_back bare_caller calls_bare inner middle outer main <start>
// chain jit: ? jit inner middle outer main <start>
// chain jit_calls: writes called_back ? jit_calls inner middle outer main <start>
#define _GNU_SOURCE
#include "chain.h"
#include <alloca.h>
#include <sys/mman.h>

CALLED void writes(char *where)
{
	*(volatile int *)hide(0) = *where;
	sink++;
}

// Keeps its caller's frame through a register while the stack is realigned.
__attribute__((target("avx"))) CALLED void realigns(void)
{
	float lanes[16] __attribute__((aligned(64)));
	for (int i = 0; i < 16; i++)
		lanes[i] = sink + i;
	char *more = alloca(64 + zero);
	more[0] = (char)lanes[3];
	writes(more);
	sink += (int)lanes[sink & 15];
}

// No CFI in these: nothing moved, 4 KB taken, a frame pointer set up.
__asm__(".text\n"
	".type bare, @function\n"
	"bare: movl $1, 0\n"
	"ret\n"
	".size bare, . - bare\n"
	".type bare_4k, @function\n"
	"bare_4k: sub $4096, %rsp\n"
	"movl $1, 0\n"
	"add $4096, %rsp\n"
	"ret\n"
	".size bare_4k, . - bare_4k\n"
	".type bare_fp, @function\n"
	"bare_fp: push %rbp\n"
	"mov %rsp, %rbp\n"
	"sub $32, %rsp\n"
	"movl $1, 0\n"
	"leave\n"
	"ret\n"
	".size bare_fp, . - bare_fp\n"
	// Calls on: in the middle of the chain without CFI, rbp used as any register.
	".type bare_caller, @function\n"
	"bare_caller: push %rbp\n"
	"push %rbx\n"
	"xor %ebp, %ebp\n"
	"sub $1032, %rsp\n"
	"call *%rdi\n"
	"add $1032, %rsp\n"
	"pop %rbx\n"
	"pop %rbp\n"
	"ret\n"
	".size bare_caller, . - bare_caller\n");
extern void bare(void), bare_4k(void), bare_fp(void), bare_caller(void (*)(void));

CALLED void leaf(void)
{
	bare();
	sink++;
}

// What earlier calls left behind must not pass for callers.
CALLED int leftovers(int depth)
{
	volatile char locals[64];
	locals[depth] = 1;
	return depth ? leftovers(depth - 1) + locals[1] : (int)zero;
}

CALLED void leaf_4k(void)
{
	sink += leftovers(24);
	bare_4k();
	sink++;
}

CALLED void leaf_fp(void)
{
	bare_fp();
	sink++;
}

CALLED void called_back(void)
{
	writes((char *)&sink);
	sink++;
}

// Its own frame hangs on rbp, which the function without CFI has overwritten.
CALLED void calls_bare(void)
{
	char *more = alloca(80 + zero);
	more[0] = 1;
	bare_caller(called_back);
	sink += more[0];
}

static unsigned char *page(const unsigned char *code, unsigned long size)
{
	unsigned char *page = mmap(0, 4096, PROT_READ | PROT_WRITE | PROT_EXEC,
				   MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	memcpy(page, code, size);
	return page;
}

CALLED void jit(void)
{
	// movl $1, 0; ret
	static const unsigned char code[] = { 0xc7, 0x04, 0x25, 0, 0, 0, 0, 1, 0, 0, 0, 0xc3 };
	((void (*)(void))page(code, sizeof(code)))();
	sink++;
}

CALLED void jit_calls(void)
{
	// sub $24, %rsp; call *%rdi; add $24, %rsp; ret
	static const unsigned char code[] = { 0x48, 0x83, 0xec, 0x18, 0xff, 0xd7,
					      0x48, 0x83, 0xc4, 0x18, 0xc3 };
	((void (*)(void (*)(void)))page(code, sizeof(code)))(called_back);
	sink++;
}

static const struct scenario scenarios[] = {
	{ "realigns", realigns },     { "leaf", leaf },		  { "leaf_4k", leaf_4k },
	{ "leaf_fp", leaf_fp },	      { "calls_bare", calls_bare }, { "jit", jit },
	{ "jit_calls", jit_calls }, { 0, 0 },
};

int main(int argc, char **argv)
{
	return start(argc, argv, scenarios);
}
