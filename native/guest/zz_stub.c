#include "helper.h"
#define S(n) _Noreturn void n(struct helper *h){helper_fail(h, ENOSYS, "later");}
S(op_stat) S(op_list) S(op_read) S(op_write) S(op_mkdir) S(op_move) S(op_remove) S(op_chmod) S(op_chown) S(op_watch) S(op_port) S(op_ports) S(op_stats) S(op_xattr)
