/* A bad pointer given to a function inside a very large library: its path, the
 * library's function to call. Chain: the library's frames, enters, main. */
#include <dlfcn.h>
#include <stdio.h>

__attribute__((noinline, noipa, used)) static void *enters(void *(*function)(void *))
{
	void *volatile got = function((void *)0x10);
	return got;
}

int main(int argc, char **argv)
{
	void *library = argc > 2 ? dlopen(argv[1], RTLD_NOW) : 0;
	void *function = library ? dlsym(library, argv[2]) : 0;
	if (!function) {
		fputs("large: no such library or function\n", stderr);
		return 2;
	}
	return enters((void *(*)(void *))function) != 0;
}
