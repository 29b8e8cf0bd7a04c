
-- A dump of data alone brings the version of another time: it neither doubles what is here nor
-- makes it older.
BEGIN
    IF EXISTS (SELECT FROM pgherald.schema_version) THEN
        RETURN NULL;
    END IF;
    NEW.version := greatest(NEW.version, pgherald.schema_version());
    RETURN NEW;
END
