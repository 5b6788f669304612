// Code that is in no file, or not where its file says; and chains that cannot be
// followed to their end, which must be said.
//
// chain compiled: null_write called_back ? ? ? ? runs_compiled compiled inner middle outer main <start>
// chain in_compiled: ? ? ? ? runs_compiled in_compiled inner middle outer main <start>
// chain left_over: null_write called_back ? ? ? ? runs_compiled left_over inner middle outer main <start>
// chain no_frames: null_write called_back ? ? ? ? runs_compiled no_frames inner middle outer main <start>
// chain mapped_twice: null_write called_back ? ? ? ? runs_compiled mapped_twice inner middle outer main <start>
// chain moved_text: null_write moved_text inner middle outer main <start>
// chain kept_in_rax: writes_null keeps_in_rax kept_in_rax inner middle outer main <start>
// chain zeroed: null_write clears_return <cut>
// chain large_frames: null_write large <or_cut> third second first large_frames inner middle outer main <start>
#define _GNU_SOURCE
#include "chain.h"
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

CALLED void null_write(void)
{
	*(volatile int *)hide(0) = 1;
	sink++;
}

CALLED void called_back(void)
{
	null_write();
	sink++;
}

#define LEVELS 4
#define LEVEL_BYTES 4096

static unsigned char *put(unsigned char *at, const void *bytes, int count)
{
	memcpy(at, bytes, count);
	return at + count;
}

// push %rbp; mov %rsp, %rbp; sub $32, %rsp; ...; movabs $called, %rax; call *%rax;
// leave; ret: with frame pointers. Or sub $40, %rsp; ...; add $40, %rsp; ret.
static void compile(unsigned char *into, unsigned char *runs_at, void *called, int frames, int crashes)
{
	for (int i = 0; i < LEVELS; i++) {
		unsigned char *at = into + i * LEVEL_BYTES;
		at = frames ? put(at, "\x55\x48\x89\xe5\x48\x83\xec\x20", 8) : put(at, "\x48\x83\xec\x28", 4);
		memset(at, 0x90, 100);
		at = put(at + 100, "\x48\xb8", 2);
		at = put(at, &called, sizeof(called));
		if (!i && crashes)
			at = put(at, "\x8b\x00", 2);
		at = put(at, "\xff\xd0", 2);
		at = frames ? put(at, "\xc9\xc3", 2) : put(at, "\x48\x83\xc4\x28\xc3", 5);
		called = runs_at + i * LEVEL_BYTES;
	}
}

CALLED void runs_compiled(unsigned char *code)
{
	((void (*)(void))(code + (LEVELS - 1) * LEVEL_BYTES))();
	sink++;
}

static unsigned char *pages(void)
{
	return mmap(0, LEVELS * LEVEL_BYTES, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
}

CALLED void compiled(void)
{
	unsigned char *code = pages();
	compile(code, code, called_back, 1, 0);
	runs_compiled(code);
	sink++;
}

CALLED void in_compiled(void)
{
	unsigned char *code = pages();
	compile(code, code, (void *)hide(0), 1, 1);
	runs_compiled(code);
	sink++;
}

// What the C library leaves on the stack lies where the compiled code has its locals.
CALLED void left_over(void)
{
	unsigned char *code = pages();
	compile(code, code, called_back, 1, 0);
	FILE *file = fopen("/dev/null", "w");
	fprintf(file, "%p %d\n", code, sink);
	fclose(file);
	runs_compiled(code);
	sink++;
}

CALLED void no_frames(void)
{
	unsigned char *code = pages();
	compile(code, code, called_back, 0, 0);
	runs_compiled(code);
	sink++;
}

// Written to at one place, run at another.
CALLED void mapped_twice(void)
{
	int file = memfd_create("corpus_code", 0);
	int size = LEVELS * LEVEL_BYTES;
	if (ftruncate(file, size))
		return;
	unsigned char *writes = mmap(0, size, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
	unsigned char *runs = mmap(0, size, PROT_READ | PROT_EXEC, MAP_SHARED, file, 0);
	compile(writes, runs, called_back, 1, 0);
	runs_compiled(runs);
	sink++;
}

// As programs do that want their own text in huge pages.
CALLED void moved_text(void)
{
	FILE *maps = fopen("/proc/self/maps", "r");
	unsigned long start = 0, end = 0, here = (unsigned long)moved_text;
	char line[512];
	while (fgets(line, sizeof(line), maps)) {
		sscanf(line, "%lx-%lx", &start, &end);
		if (start <= here && here < end)
			break;
	}
	fclose(maps);
	void *copy = mmap(0, end - start, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	memcpy(copy, (void *)start, end - start);
	mprotect(copy, end - start, PROT_READ | PROT_EXEC);
	mremap(copy, end - start, end - start, MREMAP_MAYMOVE | MREMAP_FIXED, (void *)start);
	null_write();
	sink++;
}

// Its frame's end is kept in a register which functions that it calls may use, and
// writes_null does not: OpenSSL's AES for AVX is written so.
void keeps_in_rax(void);
__asm__(".text\n"
	".type writes_null, @function\n"
	"writes_null: .cfi_startproc\n"
	"mov zero(%rip), %rcx\n"
	"movl $1, (%rcx)\n"
	"ret\n"
	".cfi_endproc\n"
	".size writes_null, . - writes_null\n"
	".globl keeps_in_rax\n"
	".type keeps_in_rax, @function\n"
	"keeps_in_rax: .cfi_startproc\n"
	"mov %rsp, %rax\n"
	".cfi_def_cfa_register %rax\n"
	"push %rbx\n"
	".cfi_offset %rbx, -16\n"
	"push %rbp\n"
	".cfi_offset %rbp, -24\n"
	"sub $0x100, %rsp\n"
	"and $-128, %rsp\n"
	"xor %ebp, %ebp\n"
	"call writes_null\n"
	"mov -8(%rax), %rbx\n"
	"mov -16(%rax), %rbp\n"
	"mov %rax, %rsp\n"
	".cfi_def_cfa_register %rsp\n"
	"ret\n"
	".cfi_endproc\n"
	".size keeps_in_rax, . - keeps_in_rax\n");

CALLED void kept_in_rax(void)
{
	keeps_in_rax();
	sink++;
}

// What clears too much: its caller's return address is zero, as that of a first
// function would be. By hand, so that it is the same in every build.
void clears_return(void);
__asm__(".text\n"
	".globl clears_return\n"
	".type clears_return, @function\n"
	"clears_return: .cfi_startproc\n"
	"sub $24, %rsp\n"
	".cfi_def_cfa_offset 32\n"
	"movq $0, 16(%rsp)\n"
	"movq $0, 24(%rsp)\n"
	"call null_write\n"
	"add $24, %rsp\n"
	".cfi_def_cfa_offset 8\n"
	"ret\n"
	".cfi_endproc\n"
	".size clears_return, . - clears_return\n");

CALLED void zeroed(void)
{
	clears_return();
	sink++;
}

// More than is kept of a stack, and all of it in use.
#define LARGE(name, calls)                     \
	CALLED void name(void)                 \
	{                                      \
		volatile char frame[65536];    \
		memset((char *)frame, sink, sizeof(frame)); \
		calls();                       \
		sink += frame[sink & 65535];   \
	}
LARGE(large, null_write)
LARGE(third, large)
LARGE(second, third)
LARGE(first, second)

CALLED void large_frames(void)
{
	first();
	sink++;
}

static const struct scenario scenarios[] = {
	{ "compiled", compiled },
	{ "in_compiled", in_compiled },
	{ "left_over", left_over },
	{ "no_frames", no_frames },
	{ "mapped_twice", mapped_twice },
	{ "moved_text", moved_text },
	{ "kept_in_rax", kept_in_rax },
	{ "zeroed", zeroed },
	{ "large_frames", large_frames },
	{ 0, 0 },
};

int main(int argc, char **argv)
{
	return start(argc, argv, scenarios);
}
