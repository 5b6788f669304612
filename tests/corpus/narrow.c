// A 32-bit program, without a C library so that none is needed to build it.
//
// chain null_write: null_write inner outer begin _start <end>
#define CALLED __attribute__((noinline, noipa, used))

static volatile unsigned zero;
static volatile int sink;

CALLED void null_write(void)
{
	*(volatile int *)zero = 1;
	sink++;
}

CALLED void inner(void)
{
	null_write();
	sink++;
}

CALLED void outer(void)
{
	inner();
	sink++;
}

CALLED void begin(void)
{
	outer();
	sink++;
}

__asm__(".globl _start\n"
	".type _start, @function\n"
	"_start: .cfi_startproc\n"
	".cfi_undefined eip\n"
	"xor %ebp, %ebp\n"
	"call begin\n"
	"hlt\n"
	".cfi_endproc\n"
	".size _start, . - _start\n");
