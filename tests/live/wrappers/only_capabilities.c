/* only_capabilities MASK PROGRAM ARGUMENT...: runs PROGRAM as user 65534 with the
 * capabilities of the hexadecimal MASK and no others. */
#define _GNU_SOURCE
#include <grp.h>
#include <linux/capability.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

static int fail(const char *what)
{
	perror(what);
	return 126;
}

int main(int argc, char **argv)
{
	struct __user_cap_header_struct header = { _LINUX_CAPABILITY_VERSION_3, 0 };
	struct __user_cap_data_struct data[2] = { 0 };
	unsigned long long mask = argc > 2 ? strtoull(argv[1], NULL, 16) : 0;

	if (argc < 3)
		return 126;
	for (int i = 0; i < 2; i++) {
		data[i].permitted = data[i].effective = data[i].inheritable = (unsigned)(mask >> (32 * i));
	}
	if (prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0) || setgroups(0, NULL) || setresgid(65534, 65534, 65534) ||
	    setresuid(65534, 65534, 65534))
		return fail("only_capabilities: user");
	if (syscall(SYS_capset, &header, data))
		return fail("only_capabilities: capset");
	for (int bit = 0; bit < 64; bit++) {
		if (mask >> bit & 1 && prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, bit, 0, 0))
			return fail("only_capabilities: ambient");
	}
	execvp(argv[2], argv + 2);
	return fail(argv[2]);
}
