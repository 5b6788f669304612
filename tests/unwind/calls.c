// Ordinary calls that end badly: main -> outer -> middle -> inner -> the one named.
//
// chain null_write: null_write inner middle outer main <start>
// chain null_call: ? null_call inner middle outer main <start>
// chain wild_call: ? wild_call inner middle outer main <start>
// chain non_canonical_call: [__x86_indirect_thunk*] non_canonical_call inner middle outer main <start>
// chain heap_call: ? heap_call inner middle outer main <start>
// chain slot_call: ? slot_call inner middle outer main <start>
// chain last_call: dies last_call inner middle outer main <start>
// chain recursion: recurse+ <depth>
// chain big_local: big_local inner middle outer main <start>
// chain overwritten: smash <lost> inner middle outer main <start>
// cause null_call: null_call
// cause wild_call: wild_jump
// cause non_canonical_call: wild_jump
// cause heap_call: execute_protected
// cause slot_call: null_call
// cause recursion: stack_overflow
// cause big_local: stack_overflow
// cause overwritten: wild_jump
#include "chain.h"
#include <stdlib.h>
#include <string.h>

CALLED void null_write(void)
{
	*(volatile int *)hide(0) = 1;
	sink++;
}

CALLED void null_call(void)
{
	((void (*)(void))hide(0))();
	sink++;
}

CALLED void wild_call(void)
{
	((void (*)(void))hide(0x123456789000))();
	sink++;
}

// Faults at the call itself: such an address never gets into the pc.
CALLED void non_canonical_call(void)
{
	((void (*)(void))hide(0x4141414141414141))();
	sink++;
}

CALLED void heap_call(void)
{
	void *memory = malloc(64);
	memset(memory, 0x90, 64);
	((void (*)(void))memory)();
	sink++;
}

// A stub as the procedure linkage table has them, with a bad slot and no CFI.
__attribute__((used)) void *bad_slot = (void *)0x10;
__asm__(".text\n"
	".type stub, @function\n"
	"stub: jmp *bad_slot(%rip)\n"
	".size stub, . - stub\n");
extern void stub(void);

CALLED void slot_call(void)
{
	stub();
	sink++;
}

CALLED __attribute__((noreturn)) void dies(void)
{
	*(volatile int *)hide(0) = 1;
	__builtin_unreachable();
}

// The call is its last instruction: the return address lies in the next function.
CALLED void last_call(void)
{
	sink++;
	dies();
}

CALLED void recurse(int depth)
{
	volatile char locals[256];
	locals[depth & 255] = 1;
	recurse(depth + 1);
	sink += locals[0];
}

CALLED void recursion(void)
{
	recurse(0);
	sink++;
}

CALLED void big_local(void)
{
	volatile char locals[64 << 20];
	locals[hide(0)] = 1;
	sink += locals[0];
}

// Returns to an address that is none: #GP at the ret.
__asm__(".text\n"
	".type smash, @function\n"
	"smash: .cfi_startproc\n"
	"movabs $0x4141414141414141, %rax\n"
	"mov %rax, (%rsp)\n"
	"ret\n"
	".cfi_endproc\n"
	".size smash, . - smash\n");
extern void smash(void);

CALLED void overwritten(void)
{
	smash();
	sink++;
}

static const struct scenario scenarios[] = {
	{ "null_write", null_write },	{ "null_call", null_call },
	{ "wild_call", wild_call },	{ "non_canonical_call", non_canonical_call },
	{ "heap_call", heap_call },	{ "slot_call", slot_call },
	{ "last_call", last_call },	{ "recursion", recursion },
	{ "big_local", big_local },	{ "overwritten", overwritten },
	{ 0, 0 },
};

int main(int argc, char **argv)
{
	return start(argc, argv, scenarios);
}
