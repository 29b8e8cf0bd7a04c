"""Python's migration tools and writers, as docs/writers.md shows them.

Arguments: the file with what `setup --print` shows, and the URLs of the owner, of a role of
--send-role and of a role of --orm-role. Says nothing if everything is right.
"""

import sys

import django
import psycopg
from alembic.migration import MigrationContext
from alembic.operations import Operations
from django.conf import settings
from psycopg.types.json import Jsonb
from sqlalchemy import BigInteger, Identity, create_engine
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.engine import make_url
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

script_file, owner, app, orm = sys.argv[1:]
with open(script_file, encoding="utf-8") as file:
    script = file.read()

PATH = "SELECT current_setting('search_path')"


def engine(url):
    return create_engine(make_url(url).set(drivername="postgresql+psycopg"))


def alembic():
    with engine(owner).begin() as connection:
        op = Operations(MigrationContext.configure(connection))
        op.execute("CREATE TABLE alembic_before (id int)")
        op.execute(script)
        op.execute("CREATE TABLE alembic_after (id int)")
        op.execute("INSERT INTO public.alembic_after SELECT id FROM alembic_before")
        assert connection.exec_driver_sql(PATH).scalar() == '"$user", public'


def configure_django():
    def database(url):
        url = make_url(url)
        return {
            "ENGINE": "django.db.backends.postgresql",
            "NAME": url.database,
            "USER": url.username,
            "HOST": url.host,
            "PORT": url.port,
        }

    settings.configure(
        DATABASES={"default": database(owner), "orm": database(orm)},
        DEFAULT_AUTO_FIELD="django.db.models.BigAutoField",
    )
    django.setup()


def django_migration():
    from django.db import connection, migrations
    from django.db.migrations.state import ProjectState

    with connection.schema_editor(atomic=True) as editor:
        editor.execute("CREATE TABLE django_before (id int)")
        migrations.RunSQL(script).database_forwards("a", editor, ProjectState(), ProjectState())
        editor.execute("CREATE TABLE django_after (id int)")
        editor.execute("INSERT INTO public.django_after SELECT id FROM django_before")
        with connection.cursor() as cursor:
            cursor.execute(PATH)
            assert cursor.fetchone() == ('"$user", public',)


def send_with_psycopg():
    with psycopg.connect(app) as connection:
        send = "SELECT pgherald.send_json(%s, %s, %s)"
        connection.execute(send, ("psycopg", Jsonb({"id": 7}), "customer-3"))
        connection.execute("SELECT pgherald.send_bytes(%s, %s)", ("psycopg", b"\x01\xff"))


class Base(DeclarativeBase):
    pass


class Message(Base):
    __tablename__ = "messages"
    __table_args__ = {"schema": "pgherald"}
    id: Mapped[int] = mapped_column(BigInteger, Identity(always=True), primary_key=True)
    channel: Mapped[str]
    key: Mapped[str | None]
    headers: Mapped[dict] = mapped_column(JSONB, server_default="{}")
    content_type: Mapped[str | None]
    payload: Mapped[str | None]


def send_with_sqlalchemy():
    with Session(engine(orm)) as session, session.begin():
        message = Message(channel="sqlalchemy", payload="x")
        session.add(message)
        session.flush()
        assert message.id > 0 and message.headers == {}
        session.add_all([Message(channel="sqlalchemy", payload=str(n)) for n in range(10)])


def send_with_django():
    from django.db import models

    class DjangoMessage(models.Model):
        channel = models.TextField()
        key = models.TextField(null=True)
        headers = models.JSONField(default=dict)
        payload = models.TextField(null=True)

        class Meta:
            app_label = "writers"
            managed = False
            db_table = 'pgherald"."messages'

    message = DjangoMessage.objects.using("orm").create(channel="django", payload="x")
    assert message.id > 0
    many = [DjangoMessage(channel="django", payload=str(n)) for n in range(10)]
    DjangoMessage.objects.using("orm").bulk_create(many)


configure_django()
alembic()
django_migration()
send_with_psycopg()
send_with_sqlalchemy()
send_with_django()
