/* The mistakes that everybody makes once: classics munmap | past | before | guard |
 * marked | thread | frame | threadframe | freed | poison | strcpy | aligned | jump |
 * overwritten | run.
 *
 * Each dies by SIGSEGV:
 *   munmap       reads what was unmapped before              SEGV_MAPERR
 *   past         writes a byte past the end of a mapping     SEGV_MAPERR
 *   before       reads the byte before a mapping             SEGV_MAPERR
 *   guard        writes into a page without any permission   SEGV_ACCERR
 *   marked       the same, marked by MADV_GUARD_INSTALL (Linux 6.13; else as guard)
 *   thread       endless recursion in a thread               SEGV_ACCERR
 *   frame        a local array of 64 MB                      SEGV_MAPERR
 *   threadframe  the same of 4 MB in a thread of 256 KB      SEGV_MAPERR
 *   freed        a virtual call through an object that was freed
 *   poison       the same, with memory that was filled with 0xa5
 *   strcpy       copies into a string constant               SEGV_ACCERR
 *   aligned      movaps 8 bytes beside a multiple of 16 (x86_64)  SI_KERNEL
 *   jump         calls "@@@@@@@@"                            SI_KERNEL on x86_64
 *   overwritten  returns to "DDDDDDDD", a buffer's overflow  SI_KERNEL on x86_64
 *   run          runs past the end of its code               SEGV_MAPERR
 * Chain: do_<kind> main (thread: dig dig dig). */
#define _GNU_SOURCE
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "crash.h"

#ifndef MADV_GUARD_INSTALL
#define MADV_GUARD_INSTALL 102
#endif

#define PAGE 65536 /* of any architecture */

/* Keeps a compiler from making room for what is used of it only. */
#define AS_LARGE(room) __asm__ volatile("" : : "r"(room) : "memory")

static volatile int forever = 1;

/* Three pages, of which only the one in the middle may be touched. */
static char *page_between(int beside)
{
	char *p = mmap(NULL, 3 * PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	mprotect(p + PAGE, PAGE, PROT_READ | PROT_WRITE);
	if (!beside) {
		munmap(p, PAGE);
		munmap(p + 2 * PAGE, PAGE);
	}
	return p + PAGE;
}

FRAME int do_munmap(void)
{
	volatile int *p = (void *)page_between(0);

	p[4] = 1;
	munmap((void *)p, PAGE);
	int y = p[4];
	KEEP_FRAME();
	return y;
}

FRAME int do_past(void)
{
	volatile char *p = page_between(0);

	for (int i = 0; i <= PAGE; i++)
		p[i] = 'x';
	KEEP_FRAME();
	return p[0];
}

FRAME int do_before(void)
{
	volatile char *p = page_between(0);
	int y = p[-1];

	KEEP_FRAME();
	return y;
}

FRAME int do_guard(void)
{
	volatile char *p = page_between(1);

	for (int i = 0; i <= PAGE; i++)
		p[i] = 'x';
	KEEP_FRAME();
	return p[0];
}

FRAME int do_marked(void)
{
	char *p = page_between(1);

	mprotect(p + PAGE, PAGE, PROT_READ | PROT_WRITE);
	if (madvise(p + PAGE, PAGE, MADV_GUARD_INSTALL))
		mprotect(p + PAGE, PAGE, PROT_NONE);
	((volatile char *)p)[PAGE] = 'x';
	KEEP_FRAME();
	return p[0];
}

FRAME int dig(int depth)
{
	volatile char room[100];

	room[depth % 100] = (char)depth;
	int y = forever ? dig(depth + 1) : 0;
	KEEP_FRAME();
	return y + room[depth % 100];
}

static void *digger(void *unused)
{
	(void)unused;
	return (void *)(intptr_t)dig(0);
}

FRAME int big_frame(void)
{
	volatile char room[64 << 20];

	AS_LARGE(room);
	room[100] = 1;
	KEEP_FRAME();
	return room[100];
}

static void *small_stack(void *unused)
{
	volatile char room[4 << 20];

	(void)unused;
	AS_LARGE(room);
	room[100] = 1;
	KEEP_FRAME();
	return (void *)(intptr_t)room[100];
}

static int in_thread(void *(*body)(void *), size_t stack)
{
	pthread_attr_t attributes;
	pthread_t thread;

	pthread_attr_init(&attributes);
	pthread_attr_setstacksize(&attributes, stack);
	if (pthread_create(&thread, &attributes, body, NULL))
		return 0;
	pthread_join(thread, NULL);
	return 1;
}

struct object {
	int (**functions)(struct object *);
	char more[200];
};

static int (*table[2])(struct object *);

static struct object *volatile object;

FRAME int do_virtual(void)
{
	int y = object->functions[1](object);

	KEEP_FRAME();
	return y;
}

/* In a page that is not executable and not writable, whatever the linker does. */
static const char constant[] = "a constant";
static const char *volatile into = constant;
static const char *volatile text = "longer than that";

FRAME int do_strcpy(void)
{
	char *p = strcpy((char *)into, text);

	KEEP_FRAME();
	return p[0];
}

FRAME int do_aligned(void)
{
	int y = 0;
#ifdef __x86_64__
	static char buffer[64] __attribute__((aligned(16)));

	__asm__ volatile("movaps %%xmm0, %0" : "=m"(buffer[8]));
	y = buffer[8];
#endif
	KEEP_FRAME();
	return y;
}

static int (*volatile garbage)(void) = (int (*)(void))0x4040404040404040;

FRAME int do_jump(void)
{
	int y = garbage();

	KEEP_FRAME();
	return y;
}

static volatile size_t too_long = 256;

#if defined(__clang__)
#define UNPROTECTED __attribute__((no_stack_protector))
#else
#define UNPROTECTED __attribute__((optimize("no-stack-protector")))
#endif

UNPROTECTED FRAME int do_overwritten(void)
{
	volatile char room[8];

	for (size_t i = 0; i < too_long; i++)
		room[i] = 'D';
	KEEP_FRAME();
	return room[0];
}

/* Nothing but instructions that do nothing, up to the end of the page. */
FRAME int do_run(void)
{
	char *p = page_between(0);
#ifdef __x86_64__
	memset(p, 0x90, PAGE);
#else
	for (uint32_t *word = (void *)p; (char *)word < p + PAGE; word++)
		*word = 0xd503201f;
#endif
	__builtin___clear_cache(p, p + PAGE);
	mprotect(p, PAGE, PROT_READ | PROT_EXEC);
	int y = ((int (*)(void))(p + PAGE - 64))();
	KEEP_FRAME();
	return y;
}

int main(int argc, char **argv)
{
	const char *kind = argc > 1 ? argv[1] : "";
	int y = 0;

	if (!strcmp(kind, "munmap")) {
		y = do_munmap();
	} else if (!strcmp(kind, "past")) {
		y = do_past();
	} else if (!strcmp(kind, "before")) {
		y = do_before();
	} else if (!strcmp(kind, "guard")) {
		y = do_guard();
	} else if (!strcmp(kind, "marked")) {
		y = do_marked();
	} else if (!strcmp(kind, "thread")) {
		y = in_thread(digger, 256 << 10);
	} else if (!strcmp(kind, "frame")) {
		y = big_frame();
	} else if (!strcmp(kind, "threadframe")) {
		y = in_thread(small_stack, 256 << 10);
	} else if (!strcmp(kind, "freed")) {
		object = calloc(1, sizeof(*object));
		object->functions = table;
		free(object);
		y = do_virtual();
	} else if (!strcmp(kind, "poison")) {
		object = malloc(sizeof(*object));
		memset(object, 0xa5, sizeof(*object));
		y = do_virtual();
	} else if (!strcmp(kind, "strcpy")) {
		y = do_strcpy();
	} else if (!strcmp(kind, "aligned")) {
		y = do_aligned();
	} else if (!strcmp(kind, "jump")) {
		y = do_jump();
	} else if (!strcmp(kind, "overwritten")) {
		y = do_overwritten();
	} else if (!strcmp(kind, "run")) {
		y = do_run();
	} else {
		fprintf(stderr, "classics: no such kind: %s\n", kind);
	}
	KEEP_FRAME();
	return y & 1;
}
