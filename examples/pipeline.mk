# From a corpus to the comparison of two trainings; each stage is redone only when something it depends on has changed.
#
#   make -f examples/pipeline.mk CORPUS=corpus/ WORKDIR=out POLICIES="uniform odm toremi" eval
#
# Targets: embed, cluster, annotate, train, eval (the table), report (an image). `make -n` says what would be done.
# A stage's flags: FLAGS_embed, FLAGS_cluster, FLAGS_annotate, FLAGS_pretrain, FLAGS_eval; changing them redoes it.
# An interrupted stage goes on where it stopped. CORPUS and WORKDIR must not contain spaces.

CORPUS   ?= corpus
WORKDIR  ?= toremi-out
POLICIES ?= uniform toremi
TOREMI   ?= toremi

FLAGS_embed    ?=
FLAGS_cluster  ?=
FLAGS_annotate ?=
FLAGS_pretrain ?= --model 1m
FLAGS_eval     ?=

# Every stage writes _manifest.json last, so it is newer than all that the stage wrote.
EMBEDDED  := $(WORKDIR)/embeddings/_manifest.json
CLUSTERED := $(WORKDIR)/clusters/_manifest.json
ANNOTATED := $(WORKDIR)/annotated/_manifest.json
TRAINED   := $(POLICIES:%=$(WORKDIR)/runs/%/.trained)
STATE     := $(WORKDIR)/.make

.PHONY: all embed cluster annotate train eval report FORCE
.SECONDARY:
.DEFAULT_GOAL := all

all: eval report
embed: $(EMBEDDED)
cluster: $(CLUSTERED)
annotate: $(ANNOTATED)
train: $(TRAINED)

eval: $(WORKDIR)/eval.txt
	@cat $<

report: $(WORKDIR)/report.png

$(EMBEDDED): $(STATE)/corpus $(STATE)/embed.flags
	$(TOREMI) embed $(CORPUS) --workdir $(WORKDIR) $(FLAGS_embed)
	@touch $@

$(CLUSTERED): $(EMBEDDED) $(STATE)/cluster.flags
	$(TOREMI) cluster --workdir $(WORKDIR) $(FLAGS_cluster)
	@touch $@

$(ANNOTATED): $(CLUSTERED) $(STATE)/annotate.flags
	$(TOREMI) annotate --workdir $(WORKDIR) $(FLAGS_annotate)
	@touch $@

# A finished run whose corpus or flags have changed is trained anew; one that was interrupted goes on.
$(WORKDIR)/runs/%/.trained: $(ANNOTATED) $(STATE)/pretrain.flags
	$(TOREMI) pretrain --workdir $(WORKDIR) --name $* --policy $* $(FLAGS_pretrain) $(if $(wildcard $@),--overwrite)
	@touch $@

$(WORKDIR)/eval.txt: $(TRAINED) $(STATE)/eval.flags $(STATE)/policies.flags
	$(TOREMI) eval $(POLICIES) --workdir $(WORKDIR) $(FLAGS_eval) > $@.part
	@mv $@.part $@

$(WORKDIR)/report.png: $(TRAINED) $(STATE)/policies.flags
	$(TOREMI) report $(POLICIES) --workdir $(WORKDIR) -o $@

# The corpus as make sees it: names, sizes and times of its files. Rewritten only when they change.
$(STATE)/corpus: FORCE
	@mkdir -p $(STATE)
	@test -e $(CORPUS) || { echo "pipeline.mk: $(CORPUS): no such file or folder; name it with CORPUS=" >&2; exit 1; }
	@{ find $(CORPUS) -type f -printf '%p %s %T@\n' 2>/dev/null || ls -lnR $(CORPUS); } | LC_ALL=C sort > $@.new
	@if cmp -s $@.new $@; then rm $@.new; else mv $@.new $@; fi

FLAGS_policies = $(POLICIES)

$(STATE)/%.flags: FORCE
	@mkdir -p $(STATE)
	@printf '%s\n' '$(FLAGS_$*)' > $@.new
	@if cmp -s $@.new $@; then rm $@.new; else mv $@.new $@; fi
