/*
 * /bin/sh of the busybox image: busybox's shell, as tests expect its messages; but the one that
 * Debian has drops variables such as "data-1" from the environment, which pods may have, so with
 * one of these it is bash.
 */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

extern char **environ;

static int is_identifier(const char *entry)
{
    size_t length = strcspn(entry, "=");

    if (length == 0 || (*entry >= '0' && *entry <= '9'))
        return 0;
    return strspn(entry, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz_0123456789") >= length;
}

int main(int argc, char **argv)
{
    const char *shell = "/bin/busybox";

    (void)argc;
    for (char **entry = environ; *entry; entry++)
        if (!is_identifier(*entry))
            shell = "/bin/bash";
    execv(shell, argv);
    perror(shell);
    return 127;
}
