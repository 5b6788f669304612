// A program of assembly alone, without call-frame information, a C library or a frame
// pointer: whoever is called lies right behind the entry point.
//
// chain null_read: reads_null called outer _start <end>
// chain on_entry: reads_null _start <end>
__asm__(".text\n"
	".globl _start\n"
	"_start:\n"
	"mov 16(%rsp), %rsi\n"
	"cmpb $'o', (%rsi)\n"
	"jne 1f\n"
	"call reads_null\n"
	"1: call outer\n"
	"mov $60, %eax\n"
	"syscall\n"
	"outer: push %rbx\n"
	"call called\n"
	"pop %rbx\n"
	"ret\n"
	".globl called\n"
	"called: sub $24, %rsp\n"
	"call reads_null\n"
	"add $24, %rsp\n"
	"ret\n"
	"reads_null: mov 8, %rax\n"
	"again: nop\n"
	"ret\n");
