/* node_commands.h - the commands of swarm-node beside the node itself.  Each: its options, its
 * manual page, its exit status. */
#ifndef TOOLS_NODE_COMMANDS_H
#define TOOLS_NODE_COMMANDS_H

int node_status_main(int argc, char **argv);
int node_plan_main(int argc, char **argv);
int node_drain_main(int argc, char **argv);
int node_hold_main(int argc, char **argv);
int node_pause_main(int argc, char **argv);
int node_resume_main(int argc, char **argv);
int node_check_config_main(int argc, char **argv);
int node_new_key_main(int argc, char **argv);

#endif
