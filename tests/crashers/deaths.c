/* One way to die from two places each, and bad pointers that two places give to the C
 * library: deaths KIND1 | KIND2.
 *
 *   abort assert smash twice middle fortify     as in aborts.c, with glibc SIGABRT
 *   length copy print                           SIGSEGV in strlen(3), memcpy(3), printf(3)
 *   sort                                        SIGSEGV in what qsort(3) calls back
 *   thread                                      a thread that begins in the C library
 *
 * Chain: ... first or second, main; of sort: compare ... first or second, main. */
#define _GNU_SOURCE
#include <assert.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "crash.h"

static const char *volatile bad, *volatile longer = "longer than that";
static volatile size_t many = 64;
static volatile int never;

/* Each place has its own code for each way, as two bugs have. */
#define WAYS(name)                                                                    \
	FRAME static void name##_abort(void)                                          \
	{                                                                             \
		if (!never)                                                           \
			abort();                                                      \
		KEEP_FRAME();                                                         \
	}                                                                             \
	FRAME static void name##_assert(void)                                         \
	{                                                                             \
		assert(never);                                                        \
		KEEP_FRAME();                                                         \
	}                                                                             \
	FRAME static void name##_smash(void)                                          \
	{                                                                             \
		volatile char room[16];                                               \
		for (size_t i = 0; i < many; i++)                                     \
			room[i] = 'S';                                                \
		never = room[0] == 'x';                                               \
		KEEP_FRAME();                                                         \
	}                                                                             \
	FRAME static void name##_twice(void)                                          \
	{                                                                             \
		char *volatile p = malloc(24);                                        \
		free(p);                                                              \
		free(p);                                                              \
		KEEP_FRAME();                                                         \
	}                                                                             \
	FRAME static void name##_middle(void)                                         \
	{                                                                             \
		char *volatile p = malloc(4000);                                      \
		free(p + many);                                                       \
		KEEP_FRAME();                                                         \
	}                                                                             \
	FRAME static void name##_fortify(void)                                        \
	{                                                                             \
		char room[8];                                                         \
		FORTIFIED_COPY(room);                                                 \
		never = room[0];                                                      \
		KEEP_FRAME();                                                         \
	}                                                                             \
	FRAME static void name##_length(void)                                         \
	{                                                                             \
		many = strlen((const char *)bad);                                     \
		KEEP_FRAME();                                                         \
	}                                                                             \
	FRAME static void name##_copy(void)                                           \
	{                                                                             \
		char room[256];                                                       \
		memcpy(room, (const char *)bad, many);                                \
		never = room[many - 1];                                               \
		KEEP_FRAME();                                                         \
	}                                                                             \
	FRAME static void name##_print(void)                                          \
	{                                                                             \
		char room[256];                                                       \
		many = snprintf(room, sizeof(room), "%.*s and more", 9, (char *)bad + 1); \
		never = room[0];                                                      \
		KEEP_FRAME();                                                         \
	}                                                                             \
	FRAME static void name##_sort(void)                                           \
	{                                                                             \
		long numbers[100];                                                    \
		for (int i = 0; i < 100; i++)                                         \
			numbers[i] = i * 7919 % 101;                                  \
		qsort(numbers, 100, sizeof(numbers[0]), compare);                     \
		never = numbers[0];                                                   \
		KEEP_FRAME();                                                         \
	}

#ifdef __GLIBC__
extern char *__strcpy_chk(char *, const char *, size_t);
#define FORTIFIED_COPY(room) __strcpy_chk(room, longer, sizeof(room))
#else
#define FORTIFIED_COPY(room) abort()
#endif

FRAME static int compare(const void *one, const void *other)
{
	if (*(const long *)one + *(const long *)other > 150)
		*nowhere = 1;
	return *(const long *)one < *(const long *)other ? -1 : 1;
}

WAYS(first)
WAYS(second)

int main(int argc, char **argv)
{
	const char *kind = argc > 1 ? argv[1] : "";

#define WAY(way)                        \
	if (!strcmp(kind, #way "1"))    \
		first_##way();          \
	if (!strcmp(kind, #way "2"))    \
		second_##way();
	WAY(abort)
	WAY(assert)
	WAY(smash)
	WAY(twice)
	WAY(middle)
	WAY(fortify)
	WAY(length)
	WAY(copy)
	WAY(print)
	WAY(sort)
	if (!strcmp(kind, "thread1")) {
		pthread_t thread;

		/* Begins where nothing may be executed: no frame is the program's own. */
		pthread_create(&thread, 0, (void *(*)(void *))(void *)argv, 0);
		pthread_join(thread, 0);
	}
	KEEP_FRAME();
	return 0;
}
