package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"golang.org/x/term"

	"killfeed"
)

// Exit codes; exitCode is the only place that chooses one.
const (
	exitOK          = 0
	exitFailure     = 1
	exitUsage       = 2
	exitDamage      = 3
	exitUnreachable = 4
	exitLocked      = 5
	exitInterrupted = 130
)

const exitCodesHelp = `Every command ends with one of these:

    0  done (serve and tail: stopped cleanly by a signal; next: also when there is nothing new)
    1  it failed, or the server refused
    2  wrong usage: an unknown command or flag, a bad value, or a fault in the configuration
    3  check found damage
    4  the server cannot be reached, or is opening its log or shutting down
    5  the data directory is in use by another process
  130  interrupted (import, sde update, cluster init and leave, long polls and tail --limit; serve, and tail without a limit, end with 0)

A second interrupt ends any command at once, by the signal.`

const rootHelp = `Killfeed numbers EVE Online killmails in one durable log and serves each client exactly what it has not had,
once and in order.

  killfeed serve                               run the server on http://127.0.0.1:4004
  killfeed import killmails-2026-11-22.tar.bz2 put a day of history into the log
  killfeed next --client me --topic all        read from it, one event at a time
  killfeed tail                                watch killmails as they come

Every setting is a flag, a variable KILLFEED_<FLAG> in the environment, or a key of the file killfeed.toml; see
'killfeed config --help'. Exit codes: 'killfeed help exit-codes'.`

// run executes one command line and returns the exit code. It touches nothing of the process but what it is given, the
// working directory's files, and the network.
func run(ctx context.Context, args, env []string, stdin io.Reader, stdout, stderr io.Writer) int {
	a := &app{env: env, stdin: stdin, stdout: stdout, stderr: stderr}
	a.flags = a.settings.flags()
	root := a.root()
	root.SetArgs(args)
	root.SetIn(stdin)
	root.SetOut(stdout)
	root.SetErr(stderr)
	err := root.ExecuteContext(ctx)
	if err == nil {
		return exitOK
	}
	if !a.started { // everything that cobra and pflag refuse before a command runs
		err = usageError{err}
	}
	code := exitCode(err)
	if errors.Is(err, errReported) {
		return code
	}
	for line := range strings.Lines(err.Error()) { // joined errors have a line each
		fmt.Fprintln(stderr, "error:", strings.TrimSuffix(line, "\n"))
	}
	var h *hintError
	if errors.As(err, &h) {
		fmt.Fprintln(stderr, "hint:", h.hint)
	}
	return code
}

// app is one run of the program.
type app struct {
	env    []string
	stdin  io.Reader
	stdout io.Writer
	stderr io.Writer

	settings settings
	flags    *pflag.FlagSet // all settings; commands take theirs from here
	origin   map[string]string
	hooks    []webhookEntry // of the configuration file
	started  bool           // a command's own code has begun
	warnings warnings
	level    slog.LevelVar // least level to log
}

func (a *app) root() *cobra.Command {
	root := &cobra.Command{
		Use:           "killfeed",
		Short:         "A self-hosted killmail feed for EVE Online tools",
		Long:          rootHelp,
		Version:       version(),
		SilenceErrors: true,
		SilenceUsage:  true,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return nil
			}
			return unknownCommand(cmd, args[0])
		},
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	root.SetVersionTemplate("{{.Name}} {{.Version}}\n")
	root.SetFlagErrorFunc(flagError)
	root.PersistentFlags().AddFlag(a.flags.Lookup("config"))
	root.AddCommand(
		a.serveCmd(), a.importCmd(), a.backfillCmd(), a.sdeCmd(), a.checkCmd(), a.backupCmd(), a.restoreCmd(), a.exportCmd(), a.doctorCmd(), a.clusterCmd(),
		a.pollCmd(), a.nextCmd(), a.tailCmd(), a.topCmd(), a.showCmd(), a.clientsCmd(), a.tokenCmd(), a.webhooksCmd(), a.collectCmd(),
		a.configCmd(), a.healthcheckCmd(), a.versionCmd(), a.upstreamSimCmd(),
		&cobra.Command{Use: "exit-codes", Short: "What exit codes mean", Long: exitCodesHelp},
	)
	return root
}

// command completes c: it takes the named settings as flags, and loads the configuration before f runs.
func (a *app) command(c *cobra.Command, names []string, f func(ctx context.Context, args []string) error) *cobra.Command {
	c.Flags().SortFlags = false
	for _, name := range names {
		c.Flags().AddFlag(a.flags.Lookup(name))
	}
	c.RunE = func(cmd *cobra.Command, args []string) error {
		a.started = true
		var err error
		if a.origin, a.hooks, err = loadConfig(a.flags, a.env); err != nil {
			return usageError{err}
		}
		return f(cmd.Context(), args)
	}
	return c
}

// group makes a command that only has subcommands. Cobra alone would answer a misspelt subcommand with help and success.
func group(c *cobra.Command, subs ...*cobra.Command) *cobra.Command {
	c.AddCommand(subs...)
	c.Args = func(cmd *cobra.Command, args []string) error {
		if len(args) == 0 {
			return fmt.Errorf("%s needs a command: %s", cmd.CommandPath(), strings.Join(subcommands(cmd), ", "))
		}
		return unknownCommand(cmd, args[0])
	}
	c.RunE = func(*cobra.Command, []string) error { return nil } // not reached: Args always refuses
	return c
}

func subcommands(cmd *cobra.Command) (names []string) {
	for _, sub := range cmd.Commands() {
		names = append(names, sub.Name())
	}
	return names
}

func unknownCommand(cmd *cobra.Command, name string) error {
	err := fmt.Errorf("unknown command %q for %q%s", name, cmd.CommandPath(), didYouMean(name, subcommands(cmd)))
	return hint(err, "see '%s --help'", cmd.CommandPath())
}

// flagError adds the nearest flag to the complaint about an unknown one.
func flagError(cmd *cobra.Command, err error) error {
	var unknown *pflag.NotExistError
	if !errors.As(err, &unknown) {
		return err
	}
	var names []string
	cmd.Flags().VisitAll(func(f *pflag.Flag) { names = append(names, "--"+f.Name) })
	return hint(fmt.Errorf("%w%s", err, didYouMean("--"+unknown.GetSpecifiedName(), names)),
		"see '%s --help'", cmd.CommandPath())
}

// usageError marks what is the caller's fault: exit code 2.
type usageError struct{ error }

func (e usageError) Unwrap() error { return e.error }

func usagef(format string, args ...any) error { return usageError{fmt.Errorf(format, args...)} }

// hintError carries what to do about an error; it is printed on lines of its own.
type hintError struct {
	error
	hint string
}

func (e *hintError) Unwrap() error { return e.error }

func hint(err error, format string, args ...any) error {
	return &hintError{err, fmt.Sprintf(format, args...)}
}

var (
	// errReported ends a command whose failure has been told already.
	errReported = errors.New("reported")
	// errInterrupted: a signal ended the command before it was done.
	errInterrupted = errors.New("interrupted")
	// errDamage: check found damage.
	errDamage = errors.New("the log is damaged")
	// errUnreachable: no answer from the server, or it is still starting.
	errUnreachable = errors.New("the server cannot be reached")
)

func exitCode(err error) int {
	var (
		usage   usageError
		problem *problemError
	)
	switch {
	case errors.As(err, &usage):
		return exitUsage
	case errors.Is(err, errDamage):
		return exitDamage
	case errors.Is(err, errUnreachable), errors.As(err, &problem) && problem.later:
		return exitUnreachable
	case errors.Is(err, killfeed.ErrLocked):
		return exitLocked
	case errors.Is(err, errInterrupted):
		return exitInterrupted
	}
	return exitFailure
}

// isTerminal tells whether w (or r) is a terminal.
func isTerminal(stream any) bool {
	f, ok := stream.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}
