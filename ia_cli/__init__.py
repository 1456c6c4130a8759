"""Introspection adapters: train a model to say in plain words what its fine-tunes learned.

Where things are, from the command line down to what it stands on:

    main, __main__        the command `ia`: its stages, found when they are asked for, and its exit codes
    commands/             one click command per stage, thin: options in, records out
    options, parameters   what commands share: options, and the types of their values
    stage, record_files   what stages share: reading, writing, resuming
    settings              the settings of the stages, with their defaults
    console, errors, interrupts               what people see, and how a run ends

    planning, demonstrations                  sets of behaviors, and how a model shows them
    world/, catalog/, inventing/              where behaviors come from: three sources
    implanting, methods/, probing, ciphers    organisms: trained, in many ways, and measured
    introspection, interviews, trainable      the introspection adapter, and what it is taught to say
    checkpoints                               where its training goes on from
    preferring, loudness                      its second stage; organisms that are too loud for it
    elicitation, asking, explaining           self-reports, in all conditions
    confirming, confirmation/                 self-reports tried on behavior
    auditing                                  all of that for one fine-tune
    judges/, reports/, rates                  what reports say, compared with the truth, and how often

    bank, organisms       many LoRAs on one frozen base; organisms of every kind as they run
    swapping, symmetries  whole models, run with the base as their body
    directories/          adapter and model directories, checked and written whole
    training, rows        fine-tuning through TRL, on a schedule of batches
    sampling, scoring     replies, and how likely they are
    models, loading, chat                     base models and their chat templates
    servers/              chat models, most behind OpenAI-compatible endpoints; a cache of their replies
    processes             one run in several processes

    schema, records       what a record is; checks of records, and their keys
    jsonl, paths, stdout                      reading and writing them
    prompts/, text, seeds                     questions and word lists; phrases in texts; random numbers
    base/, introspection_adapter/             the embedded base, and the adapter that ships for it
    pretraining/          how the embedded base was trained
"""

__version__ = "0.1.0"
