// What the crash programs share: a chain of calls and a choice by name.
#include <stdio.h>
#include <string.h>

#define CALLED __attribute__((noinline, noipa, used))

volatile int sink;
volatile unsigned long zero;

// A value that the compiler knows nothing about.
static inline unsigned long hide(unsigned long value)
{
	return value + zero;
}

struct scenario {
	const char *name;
	void (*run)(void);
};

CALLED void inner(void (*run)(void))
{
	run();
	sink++;
}

// Its frame has a variable size, so that the CFA comes from the frame pointer.
CALLED void middle(void (*run)(void), int size)
{
	volatile char locals[size];
	locals[0] = 1;
	inner(run);
	sink += locals[size - 1];
}

CALLED void outer(void (*run)(void))
{
	middle(run, 40 + (int)zero);
	sink++;
}

static inline int start(int argc, char **argv, const struct scenario *scenarios)
{
	for (; argc > 1 && scenarios->name; scenarios++)
		if (!strcmp(scenarios->name, argv[1])) {
			outer(scenarios->run);
			return sink;
		}
	fputs("no such scenario\n", stderr);
	return 2;
}
