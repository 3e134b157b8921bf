/* sudo for the guest: runs a command as root for users to whom the seed gave `sudo:`.
 *
 * The rule is the file /etc/sudoers.d/USER, written by root only; its presence means "any command, no password",
 * which is the only policy cloud images use. Everything else is refused. */
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

int main(int argc, char **argv) {
    char rule[300], home[] = "HOME=/root", user[] = "USER=root", path[] = "PATH=/usr/sbin:/usr/bin:/sbin:/bin";
    char term[64] = "TERM=vt100", *env[] = {home, user, path, term, NULL}, *shell[] = {"/bin/sh", NULL};
    struct stat st;
    int first = 1, interactive = 0;
    const char *t = getenv("TERM");
    struct passwd *me = getpwuid(getuid());

    if (me == NULL || strchr(me->pw_name, '/') != NULL) {
        fputs("sudo: who are you?\n", stderr);
        return 1;
    }
    while (first < argc && argv[first][0] == '-') {
        if (strcmp(argv[first], "-i") == 0 || strcmp(argv[first], "-s") == 0) {
            interactive = 1;
        } else if (strcmp(argv[first], "-n") != 0 && strcmp(argv[first], "--") != 0) {
            fprintf(stderr, "sudo: only -i, -s and -n are known here, not %s\n", argv[first]);
            return 1;
        }
        first++;
    }
    snprintf(rule, sizeof rule, "/etc/sudoers.d/%s", me->pw_name);
    if (getuid() != 0 && (stat(rule, &st) != 0 || st.st_uid != 0)) {
        fprintf(stderr, "%s is not in the sudoers file.\n", me->pw_name);
        return 1;
    }
    if (first >= argc && !interactive) {
        fputs("usage: sudo [-n] COMMAND [ARGUMENT]... | sudo -i\n", stderr);
        return 1;
    }
    if (t != NULL && strlen(t) < sizeof term - 6) snprintf(term, sizeof term, "TERM=%s", t);
    if (setgid(0) != 0 || setuid(0) != 0) {
        perror("sudo");
        return 1;
    }
    clearenv();
    for (char **e = env; *e != NULL; e++) putenv(*e);
    if (first < argc) {
        execvp(argv[first], argv + first);
        fprintf(stderr, "sudo: %s: command not found\n", argv[first]);
        return 127;
    }
    execv(shell[0], shell);
    perror("sudo");
    return 1;
}
