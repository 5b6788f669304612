// A library that files.c loads.
#define CALLED __attribute__((noinline, noipa, used))

static volatile unsigned long zero;
static volatile int sink;

CALLED void plugin_faults(void)
{
	*(volatile int *)zero = 1;
	sink++;
}

CALLED void plugin_enters(void)
{
	plugin_faults();
	sink++;
}

CALLED void plugin_calls(void (*back)(void))
{
	back();
	sink++;
}
